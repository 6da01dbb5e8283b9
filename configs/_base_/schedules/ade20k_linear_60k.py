# 60,000 iterations of 32 images; AdamW 8e-4, as released for ViT-S. Warm-up from a millionth of the rate, then to 0.
optim_wrapper = dict(
    type="proteus.AutocastOptimWrapper",
    dtype="float32",  # as released, whose "amp" configs set a key that mmseg 1.x ignores; --amp for bfloat16
    optimizer=dict(type="AdamW", lr=8e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=60000),
]
auto_scale_lr = dict(base_batch_size=32, enable=False)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=60000, val_interval=2000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
