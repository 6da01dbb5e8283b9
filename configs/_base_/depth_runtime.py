# Runtime of depth estimation. Unreadable images are errors: none is replaced by another.
_base_ = "./default_runtime.py"

# tools/test.py --show-dir DIR writes a picture for each image.
show_hook = dict(type="DepthVisualizationHook", interval=1)
default_hooks = dict(
    checkpoint=dict(
        interval=1000,
        max_keep_ckpts=2,
        # Released: the best of 25 checkpoints on the test set is reported (docs/reproduction.md#nyu-depth-v2). The last
        # checkpoint is kept as well; report that one to avoid selection on the test set.
        save_best="depth/rmse",
        rule="less",
    ),
)
