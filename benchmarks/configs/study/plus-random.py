"""plus-sliced from random weights, and at their rate."""

_base_ = "./plus-sliced.py"

custom_hooks = []
optim_wrapper = dict(optimizer=dict(lr=2e-3))
