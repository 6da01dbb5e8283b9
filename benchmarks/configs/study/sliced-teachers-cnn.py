"""sliced-teachers with the EfficientNet alone: the ViT, of which the start is a slice, counts nothing in training."""

_base_ = "./sliced-teachers.py"

model = dict(teachers=dict(vit=dict(weight=1e-6)))
