# ADE20K at 512 px, for patches of 16 px.
_base_ = "./ade20k_518.py"

crop_size = (512, 512)
scale = (2048, 512)
random_resize = dict(_base_.random_resize, scale=scale)
random_crop = dict(_base_.random_crop, crop_size=crop_size)
train_pipeline = [
    _base_.load_image,
    *_base_.load_mask,
    random_resize,
    random_crop,
    *_base_.augmentation,
    _base_.pack,
]
test_pipeline = [
    _base_.load_image,
    dict(type="Resize", scale=scale, keep_ratio=True),
    *_base_.load_mask,
    _base_.pack,
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
test_dataloader = val_dataloader

tta_scales = [(4 * side, side) for side in (256, 384, 512, 640, 768, 896)]
tta_resize = [dict(type="Resize", scale=size, keep_ratio=True) for size in tta_scales]
tta_pipeline = [_base_.load_image, dict(type="TestTimeAug", transforms=[tta_resize, *_base_.tta_steps])]
