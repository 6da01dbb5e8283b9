# The Monocular-Depth-Estimation-Toolbox's schedule: 24 epochs of 1514 iterations of 16 images, one cycle.
iterations, rise = 24 * 1514, int(0.3 * 24 * 1514) - 1
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="float32",
    # The toolbox writes betas=(0.9, 0.999), but its momentum cycle starts at 0.95.
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.95, 0.999), weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
    constructor="MergedGroupsConstructor",
    # OneCycleLR has one peak for all groups, in the toolbox and here, so lr_mult has no effect: the backbone learns at
    # the full rate. The toolbox's fourth key, norm=dict(decay_mult=0.0), matches no parameter and is left out.
    paramwise_cfg=dict(
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0),
            cls_token=dict(decay_mult=0.0),
            backbone=dict(lr_mult=0.1),
        )
    ),
)
param_scheduler = [
    dict(
        type="OneCycleLR",
        eta_max=1e-4,
        total_steps=iterations,
        pct_start=0.3,
        div_factor=25,
        final_div_factor=100,
        by_epoch=False,
    ),
    # The toolbox's momentum_config: from 0.95 to 0.85 while the rate rises, and back.
    dict(type="CosineAnnealingMomentum", eta_min=0.85, by_epoch=False, begin=0, end=rise),
    dict(type="CosineAnnealingMomentum", eta_min=0.95, by_epoch=False, begin=rise, end=iterations - 1),
]
auto_scale_lr = dict(base_batch_size=16, enable=False)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=iterations, val_interval=1514)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
