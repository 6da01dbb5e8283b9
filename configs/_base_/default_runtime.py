# Runtime of every run, whatever it trains.
default_scope = "proteus"
# Lets MMEngine's own Runner find the package. A config with your own classes names their module here instead.
custom_imports = dict(imports=["proteus"])

default_hooks = dict(
    # Replaces MMEngine's RuntimeInfoHook, which waits for the device at each step to read the losses.
    runtime_info=dict(type="AsyncRuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    throughput=dict(type="ThroughputHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="proteus.AtomicCheckpointHook", by_epoch=False, interval=2500, max_keep_ckpts=3),
    strict_checkpoint=dict(type="StrictCheckpointHook"),
    # Lists settings that changed since the checkpoint; tools/train.py --resume-override uses those of the config.
    resume_settings=dict(type="proteus.ResumeSettingsHook"),
    # Writes metrics.jsonl: all logged values, one JSON object per line.
    metrics_log=dict(type="proteus.MetricsLogHook"),
    # Stops the run at a loss, gradient norm or weight that is NaN or infinite.
    stop_on_nan=dict(type="proteus.StopOnNaNHook", interval=10),
    # Saves a checkpoint at the end of the iteration on SIGTERM, SIGUSR1 or Ctrl-C.
    save_on_signal=dict(type="proteus.SaveOnSignalHook"),
    # Averages the statistics of batch norm over processes before they are validated or saved.
    batch_norm=dict(type="proteus.BatchNormHook"),
    seed=dict(type="SeedEachStepHook"),
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
