"""teachers-both with the EfficientNet alone."""

_base_ = "./teachers-both.py"

model = dict(teachers=dict(vit=None))
