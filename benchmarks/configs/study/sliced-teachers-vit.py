"""sliced-teachers with the ViT alone: plus-sliced with its teacher in bfloat16."""

_base_ = "./sliced-teachers.py"

model = dict(teachers=dict(cnn=None))
