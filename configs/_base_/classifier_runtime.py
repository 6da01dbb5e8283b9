# Runtime of classifier training. ClassifierCheckHook compares backbone, head and data before the first iteration.
_base_ = "./default_runtime.py"

default_hooks = dict(
    # Every five epochs of ImageNet-1K in batches of 1024.
    checkpoint=dict(interval=6255, max_keep_ckpts=2),
    proxy_set=dict(type="ProxySetHook"),
    # Stops the run if more than 1 % of the images cannot be read.
    corrupt_images=dict(type="CorruptImageHook", max_share=0.01),
    classifier_check=dict(type="ClassifierCheckHook"),
)
