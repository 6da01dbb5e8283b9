# A short finish at 518 px after vit-s_dinov2-b.py, for dense tasks (docs/resolution.md): DINOv2's own last phase has
# 10,000 iterations at 518 px. Not the paper's recipe, and not run yet.
_base_ = "./vit-s_dinov2-b.py"

# Student and heads. The student's positions are resampled from 16x16 to 37x37 once, when they are loaded.
load_from = "work_dirs/vit-s_dinov2-b/iter_375300.pth"

model = dict(teacher=dict(backbone=dict(img_size=518)), student=dict(img_size=518))

train_pipeline = [
    dict(type="LoadRandomResizedCrop", scale=518, crop_ratio_range=(0.08, 1.0), interpolation="bicubic"),
    *_base_.augmentation[1:],
    _base_.mask,
    dict(type="PackInputs"),
]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=592, interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=518),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))  # 8 x 32 = 256
val_dataloader = dict(batch_size=16, dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=5e-5))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=500),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=500, end=10000),
]
auto_scale_lr = dict(base_batch_size=256)
train_cfg = dict(max_iters=10000, val_interval=1000)
default_hooks = dict(online_eval=dict(interval=1000))
