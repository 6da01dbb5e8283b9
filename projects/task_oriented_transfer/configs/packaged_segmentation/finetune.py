# Steps (c) and (e), and training from scratch, on packaged data.
_base_ = ["../../../../benchmarks/configs/synthetic_masks_vit-s.py", "./task.py"]

model = dict(
    data_preprocessor=dict(size=(192, 192), test_cfg=None),
    backbone=dict(_delete_=True, **_base_.student.backbone),
    decode_head=dict(_delete_=True, **_base_.student.decode_head),
)
train_pipeline = [
    _base_.load_image,
    *_base_.load_mask,
    dict(_base_.random_resize, scale=(256, 192)),
    dict(_base_.random_crop, crop_size=(192, 192)),
    *_base_.augmentation,
    _base_.pack,
]
test_pipeline = [
    _base_.load_image,
    dict(type="Resize", scale=(256, 192), keep_ratio=True),
    *_base_.load_mask,
    _base_.pack,
]
train_dataloader = dict(dataset=dict(dataset=dict(indices=_base_.labelled, pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=3e-3))
param_scheduler = [_base_.warmup, dict(_base_.decay, end=200)]
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(checkpoint=dict(interval=200))
