# The run of a depth estimator: no image is replaced by another.
_base_ = "./default_runtime.py"

# tools/test.py --show-dir DIR: a picture of each image.
show_hook = dict(type="DepthVisualizationHook", interval=1)
default_hooks = dict(
    checkpoint=dict(
        interval=1000,
        max_keep_ckpts=2,
        # Released: the best checkpoint is chosen on the test set, so the paper's figures are the best of 25. The last
        # checkpoint is kept as well, and is what to report where nothing was to be chosen.
        save_best="depth/rmse",
        rule="less",
    ),
)
