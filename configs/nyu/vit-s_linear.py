# The frozen backbone with a DPT head, as released. The paper calls this linear probing.
_base_ = "./vit-s_dpt.py"

model = dict(freeze_backbone=True)
