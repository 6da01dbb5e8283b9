default_scope = "proteus"

default_hooks = dict(
    # MMEngine's own, RuntimeInfoHook, waits for the device at each step to read the losses.
    runtime_info=dict(type="LazyRuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    throughput=dict(type="ThroughputHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2500, max_keep_ckpts=3),
    strict_checkpoint=dict(type="StrictCheckpointHook"),
    seed=dict(type="SeedEachStepHook"),
    # Logs what the proxy set is made of, and lists the images of a part beside the checkpoints.
    proxy_set=dict(type="ProxySetHook"),
    # A run in which more than this share of the images cannot be read is stopped.
    corrupt_images=dict(type="CorruptImageHook", max_share=0.01),
    export=dict(type="ExportStudentHook"),
    # Does it work? Under 1 % of the run (WatchHook says how that was reckoned). Off: default_hooks.watch=None
    watch=dict(
        type="WatchHook",
        interval=2500,
        images=1024,
        # data_root: a folder with a folder of images for each class; None: the validation set's, if it is one.
        knn=dict(data_root=None, classes=100, images_per_class=20, ks=(10, 20)),
    ),
)
log_processor = dict(
    type="LogProcessor",
    by_epoch=False,
    window_size=50,
    mean_pattern=r".*(loss|time|data_time).*",
)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")])

env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
randomness = dict(seed=0)
launcher = "none"
log_level = "INFO"
load_from = None
resume = False
