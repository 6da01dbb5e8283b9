"""plus-sliced-strong from random weights: the hidden states of all blocks."""

_base_ = "./plus-sliced-strong.py"

custom_hooks = []
