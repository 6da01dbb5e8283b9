"""``sliced`` fitted on 1,024 views."""

_base_ = "./sliced.py"

custom_hooks = [dict(type="SlicedInitHook", views=1024)]
