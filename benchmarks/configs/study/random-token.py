"""Table 2, token objective alone, from random weights."""

_base_ = "./common.py"

model = dict(objectives=dict(feature=None, patch=None))
