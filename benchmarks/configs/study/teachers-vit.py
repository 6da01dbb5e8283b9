"""teachers-both with the ViT alone."""

_base_ = "./teachers-both.py"

model = dict(teachers=dict(cnn=None))
