"""random-ema.py from a slice of the teacher."""

_base_ = "./common.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048), dict(type="StudentEMAHook")]
