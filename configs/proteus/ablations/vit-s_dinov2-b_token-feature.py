# Table 2, third row: without the patch objective. The fourth row is ../vit-s_dinov2-b.py.
_base_ = "../vit-s_dinov2-b.py"

model = dict(objectives=dict(patch=None))
