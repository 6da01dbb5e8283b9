"""plus-sliced-strong from random weights: the hidden states of all blocks."""

_base_ = "./plus-sliced-strong.py"

custom_hooks = []
optim_wrapper = dict(optimizer=dict(lr=1e-3))
