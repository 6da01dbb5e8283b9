"""plus-random with AdamW, at its rate."""

_base_ = "./plus-random.py"

optim_wrapper = dict(optimizer=dict(type="AdamW", lr=1e-3))
