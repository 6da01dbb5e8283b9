"""random-mixup.py from a slice of the teacher."""

_base_ = "./random-mixup.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
