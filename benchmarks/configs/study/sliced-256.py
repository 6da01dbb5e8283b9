"""``sliced`` fitted on 256 views."""

_base_ = "./sliced.py"

custom_hooks = [dict(type="SlicedInitHook", views=256)]
