"""``sliced`` fitted on 4,096 views."""

_base_ = "./sliced.py"

custom_hooks = [dict(type="SlicedInitHook", views=4096)]
