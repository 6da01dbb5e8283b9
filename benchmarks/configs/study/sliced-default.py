"""The paper's three objectives from a slice of the teacher, fitted on 2,048 views of the training pictures; also the
last row of table 2 from a sliced start.
"""

_base_ = "./common.py"

custom_hooks = [dict(type="SlicedInitHook", views=2048)]
