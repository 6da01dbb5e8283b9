# The linear probe (docs/reproduction.md#linear-probe) for proteus evaluate --protocols linear, which sets backbone and
# data.
_base_ = ["./vit-s.py", "../_base_/datasets/frozen_features.py"]

protocol = dict(
    type="LinearProbing",
    sets=dict(imagenet=dict(type="ImageNet1K")),
    pipeline=_base_.pipeline,
    epochs=10,
    batch_size=512,
)
