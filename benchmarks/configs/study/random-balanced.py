"""Cosine for the cls token, and cosine with smooth L1 for patches, as in AM-RADIO."""

_base_ = "./common.py"

model = dict(
    objectives=dict(
        token=dict(loss=dict(type="CosineLoss")),
        feature=dict(cls_term=None, loss=dict(type="BalancedLoss")),
        patch=dict(loss=dict(type="BalancedLoss")),
    )
)
