# The frozen backbone with a DPT head. Released for ViT-S only, with this learning rate
# (docs/reproduction.md#nyu-depth-v2).
_base_ = "./vit-l_dpt.py"

model = dict(freeze_backbone=True)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
