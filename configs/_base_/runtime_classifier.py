# The run of a classifier: there is no student to watch and export; backbone, head and data are compared at start.
_base_ = "./runtime.py"

default_hooks = dict(
    export=None,
    watch=None,
    # Every fifth epoch of ImageNet-1K in batches of 1024.
    checkpoint=dict(interval=6255, max_keep_ckpts=2),
    classifier_check=dict(type="ClassifierCheckHook"),
)
