"""random-token-feature.py from a slice of the teacher."""

_base_ = "./random-token-feature.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
