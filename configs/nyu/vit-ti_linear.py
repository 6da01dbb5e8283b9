# The frozen backbone with a DPT head. Released for ViT-S only (docs/reproduction.md#nyu-depth-v2).
_base_ = "./vit-ti_dpt.py"

model = dict(freeze_backbone=True)
