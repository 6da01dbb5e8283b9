# The Monocular-Depth-Estimation-Toolbox's schedule: 24 epochs of 1514 iterations of 16 images, one cycle.
iterations, rise = 24 * 1514, int(0.3 * 24 * 1514) - 1
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="float32",
    # The toolbox writes betas=(0.9, 0.999), but its momentum cycle starts at 0.95.
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.95, 0.999), weight_decay=0.01),
    clip_grad=dict(max_norm=35, norm_type=2),
    constructor="MergedGroupsConstructor",
    # Two keys of the toolbox are left out, since they have no effect there: backbone=dict(lr_mult=0.1), because its one
    # cycle sets one peak for all groups, and norm=dict(decay_mult=0.0), which matches no parameter.
    paramwise_cfg=dict(custom_keys=dict(pos_embed=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0))),
)
# The toolbox's lr_config: OneCycle with pct_start=0.3, div_factor=25 and final_div_factor=100. OneCycleLR would replace
# the optimizer's rates by its eta_max; these three schedules are relative to them, so that auto_scale_lr, lr_mult and
# optim_wrapper.optimizer.lr take effect.
param_scheduler = [
    dict(type="ConstantLR", factor=1 / 25, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min_ratio=1.0, by_epoch=False, begin=0, end=rise),
    dict(type="CosineAnnealingLR", eta_min_ratio=1 / 25 / 100, by_epoch=False, begin=rise, end=iterations - 1),
    # The toolbox's momentum_config: from 0.95 to 0.85 while the rate rises, and back.
    dict(type="CosineAnnealingMomentum", eta_min=0.85, by_epoch=False, begin=0, end=rise),
    dict(type="CosineAnnealingMomentum", eta_min=0.95, by_epoch=False, begin=rise, end=iterations - 1),
]
auto_scale_lr = dict(base_batch_size=16, enable=False)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=iterations, val_interval=1514)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
