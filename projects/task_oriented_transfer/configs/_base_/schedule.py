# Chosen here: the paper's schedule is not in the text that this project follows.
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="auto",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="MergedGroupsConstructor",
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
# The last end is the number of iterations.
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=False, begin=0, end=500),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=False, begin=500, end=30000),
]
auto_scale_lr = dict(base_batch_size=256, enable=False)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=30000, val_interval=5000)
