"""plus-sliced with the augmentation of short runs: crops from 0.4, RandAugment 3."""

_base_ = "./sliced-default.py"

model = dict(
    student=dict(mask_token=False),
    objectives=dict(
        hidden=dict(type="HiddenStatesObjective"), token=dict(weight=0.005), feature=dict(weight=0.005), patch=None
    ),
)
optim_wrapper = dict(optimizer=dict(type="Muon", lr=2e-4))
