"""With the hidden states of all blocks (docs/objectives.md)."""

_base_ = "./common.py"

model = dict(objectives=dict(hidden=dict(type="HiddenStatesObjective", weight=1.0)))
