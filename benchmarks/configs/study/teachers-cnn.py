"""teachers-both with the EfficientNet alone."""

_base_ = "./teachers-both.py"

model = dict(teachers=dict(vit=None))
default_hooks = dict(export=dict(teacher="EfficientNet-Lite0 (ImageNet-1K, Apache-2.0)"))
