# Table 1, "hint", which is table 2's first row: the token objective alone.
_base_ = "../vit-s_dinov2-b.py"

model = dict(objectives=dict(feature=None, patch=None))
