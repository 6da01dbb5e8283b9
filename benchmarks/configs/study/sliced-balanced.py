"""random-balanced.py from a slice of the teacher."""

_base_ = "./random-balanced.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
