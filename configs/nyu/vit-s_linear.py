# The frozen backbone under the whole DPT head: what the paper calls linear probing. As released for S.
_base_ = "./vit-s_dpt.py"

model = dict(freeze_backbone=True)
