# The frozen backbone under the whole DPT head. Released for S alone, whose rate this is.
_base_ = "./vit-b_dpt.py"

model = dict(freeze_backbone=True)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
