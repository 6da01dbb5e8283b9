"""The recipe of configs/proteus/vit-s_dinov2-b_plus.py: hidden states of all blocks from a sliced start."""

_base_ = "./sliced-default.py"

model = dict(
    student=dict(mask_token=False),
    objectives=dict(
        hidden=dict(type="HiddenStatesObjective"), token=dict(weight=0.005), feature=dict(weight=0.005), patch=None
    ),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4))
