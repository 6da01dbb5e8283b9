"""random-token.py from a slice of the teacher."""

_base_ = "./random-token.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
