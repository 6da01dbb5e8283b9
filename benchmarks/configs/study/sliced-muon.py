"""random-muon.py from a slice of the teacher."""

_base_ = "./random-muon.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
