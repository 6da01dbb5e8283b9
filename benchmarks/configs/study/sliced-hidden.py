"""random-hidden.py from a slice of the teacher."""

_base_ = "./random-hidden.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
