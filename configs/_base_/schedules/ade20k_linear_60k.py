# 60,000 iterations of 32 images with AdamW at 8e-4, as released for ViT-S (docs/reproduction.md#ade20k). The learning
# rate warms up from a millionth of its peak, then decays to 0.
optim_wrapper = dict(
    type="proteus.AutocastOptimWrapper",
    # As released: its "amp" configs set a key that mmseg 1.x ignores. For bfloat16: tools/train.py --amp.
    dtype="float32",
    optimizer=dict(type="AdamW", lr=8e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
warmup = dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500)
decay = dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=60000)
param_scheduler = [warmup, decay]
auto_scale_lr = dict(base_batch_size=32, enable=False)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=60000, val_interval=2000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
