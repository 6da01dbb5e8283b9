# DINOv3's schedule of linear depth: 38,400 iterations of 16 images (eval/depth/configs/config-nyu.yaml of DINOv3;
# docs/reproduction.md#nyu-depth-v2).
iterations, warmup = 38400, 12800  # scheduler.total_iter and warmup_iters
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="float32",  # model_dtype is not set there
    optimizer=dict(
        type="AdamW",
        lr=3e-4,  # optimizer.lr
        # scheduler.base_momentum, which beta1 has where the warm-up ends (optimizer.beta1=0.9 is overwritten), and
        # optimizer.beta2.
        betas=(0.85, 0.99),
        weight_decay=1e-4,  # optimizer.weight_decay
    ),
    clip_grad=dict(max_norm=35, norm_type=2),  # optimizer.gradient_clip
)
# scheduler.type='WarmupOneCycleLR': a cosine over all iterations, times a linear warm-up.
param_scheduler = [
    # final_div_factor=1000: the warm-up starts from a thousandth.
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=warmup),
    # The last rate is lr / div_factor / final_div_factor, with div_factor=25 of schedulers.py.
    dict(type="CosineAnnealingLR", eta_min=3e-4 / 25 / 1000, by_epoch=False, begin=0, end=iterations),
    # schedulers.py gives beta1 = 0 during the warm-up, then base_momentum to max_momentum. MMEngine divides by this
    # factor at the end, so that it cannot be 0.
    dict(type="ConstantMomentum", factor=1e-6, by_epoch=False, begin=0, end=warmup),
    dict(type="CosineAnnealingMomentum", eta_min=0.95, by_epoch=False, begin=warmup, end=iterations),  # max_momentum
]
auto_scale_lr = dict(base_batch_size=16, enable=False)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=iterations, val_interval=1600)  # config.py: eval_interval
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
