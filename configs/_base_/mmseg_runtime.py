# Runtime of segmentation. Names without a prefix are from mmseg and MMEngine; those of this package are proteus.NAME.
# SegmentorCheckHook compares backbone, heads and data before the first iteration.
_base_ = "./default_runtime.py"

default_scope = "mmseg"
default_hooks = dict(
    runtime_info=dict(type="proteus.AsyncRuntimeInfoHook"),
    throughput=dict(type="proteus.ThroughputHook"),
    checkpoint=dict(interval=2000, max_keep_ckpts=2),
    strict_checkpoint=dict(type="proteus.StrictCheckpointHook"),
    seed=dict(type="proteus.SeedEachStepHook"),
    segmentor_check=dict(type="proteus.SegmentorCheckHook"),
    # tools/test.py --show-dir DIR draws a picture of each image.
    visualization=dict(type="proteus.SegmentationVisualizationHook", draw=False),
)
log_processor = dict(mean_pattern=r".*(loss|acc_seg|time|data_time).*")
