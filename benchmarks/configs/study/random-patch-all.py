"""The patch objective on all patches of the masked view, visible ones included."""

_base_ = "./common.py"

model = dict(objectives=dict(patch=dict(tokens="all")))
