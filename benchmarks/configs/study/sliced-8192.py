"""``sliced`` fitted on 8,192 views."""

_base_ = "./sliced.py"

custom_hooks = [dict(type="SlicedInitHook", views=8192)]
