# The frozen backbone under the whole DPT head. Released for S alone, whose rate this is.
_base_ = "./vit-ti_dpt.py"

model = dict(freeze_backbone=True)
