# Runtime of depth estimation. Unreadable images are errors: none is replaced by another. DepthCheckHook checks before
# the first iteration that the metric can use the ground truth of the validation set.
_base_ = "./default_runtime.py"

default_hooks = dict(
    depth_check=dict(type="DepthCheckHook"),
    # tools/test.py --show-dir DIR draws a picture of each image.
    visualization=dict(type="DepthVisualizationHook", draw=False, interval=1),
    checkpoint=dict(
        interval=1000,
        max_keep_ckpts=2,
        # Released: the best of 25 checkpoints on the test set is reported (docs/reproduction.md#nyu-depth-v2). The last
        # checkpoint is kept as well; report that one to avoid selection on the test set.
        save_best="depth/rmse",
        rule="less",
    ),
)
