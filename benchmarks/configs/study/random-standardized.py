"""Squared errors in the units of each channel of the teacher."""

_base_ = "./common.py"

model = dict(
    objectives=dict(
        token=dict(loss=dict(type="StandardizedMSELoss")),
        feature=dict(loss=dict(type="StandardizedMSELoss")),
        patch=dict(loss=dict(type="StandardizedMSELoss")),
    )
)
