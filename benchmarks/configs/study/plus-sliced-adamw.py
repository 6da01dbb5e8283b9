"""plus-sliced with AdamW."""

_base_ = "./plus-sliced.py"

optim_wrapper = dict(optimizer=dict(type="AdamW"))
