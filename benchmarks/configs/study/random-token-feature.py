"""Table 2, without the patch objective, from random weights."""

_base_ = "./common.py"

model = dict(objectives=dict(patch=None))
