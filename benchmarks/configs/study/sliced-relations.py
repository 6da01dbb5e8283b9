"""random-relations.py from a slice of the teacher."""

_base_ = "./random-relations.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
