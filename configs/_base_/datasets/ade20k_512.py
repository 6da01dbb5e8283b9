# ADE20K at 512 px, for patches of 16 px.
_base_ = "./ade20k_518.py"

train_pipeline = _base_.train_pipeline
train_pipeline[3].scale, train_pipeline[4].crop_size = (2048, 512), (512, 512)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (2048, 512)
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
test_dataloader = val_dataloader
tta_pipeline = _base_.tta_pipeline
tta_pipeline[1].transforms[0] = [
    dict(type="Resize", scale=(4 * side, side), keep_ratio=True) for side in (256, 384, 512, 640, 768, 896)
]
