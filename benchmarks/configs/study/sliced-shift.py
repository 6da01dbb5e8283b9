"""random-shift.py from a slice of the teacher."""

_base_ = "./random-shift.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
