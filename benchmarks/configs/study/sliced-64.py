"""``sliced`` fitted on 64 views."""

_base_ = "./sliced.py"

custom_hooks = [dict(type="SlicedInitHook", views=64)]
