"""random-standardized.py from a slice of the teacher."""

_base_ = "./random-standardized.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
