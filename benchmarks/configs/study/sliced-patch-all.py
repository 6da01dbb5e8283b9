"""random-patch-all.py from a slice of the teacher."""

_base_ = "./random-patch-all.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
