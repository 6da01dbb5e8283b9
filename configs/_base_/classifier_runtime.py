# The run of a classifier: backbone, head and data are compared at start.
_base_ = "./default_runtime.py"

default_hooks = dict(
    # Every fifth epoch of ImageNet-1K in batches of 1024.
    checkpoint=dict(interval=6255, max_keep_ckpts=2),
    proxy_set=dict(type="ProxySetHook"),
    # A run in which more than this share of the images cannot be read is stopped.
    corrupt_images=dict(type="CorruptImageHook", max_share=0.01),
    classifier_check=dict(type="ClassifierCheckHook"),
)
