"""The average of the weights is the student."""

_base_ = "./common.py"

custom_hooks = [dict(type="StudentEMAHook")]
