# A longer schedule for many classes: 137 epochs of Places365's 3,650 images, 50 of ImageNet's 10,000.
_base_ = "./finetune.py"

param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=False, begin=0, end=500),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=False, begin=500, end=10000),
]
train_cfg = dict(max_iters=10000, val_interval=5000)
default_hooks = dict(checkpoint=dict(interval=5000))
