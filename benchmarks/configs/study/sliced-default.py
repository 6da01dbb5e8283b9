"""From a slice of the teacher, fitted on 2,048 views of the training pictures: what `proteus distill` does by default.
Also the row "token, feature, patch" of table 2 from a sliced start.
"""

_base_ = "./common.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
