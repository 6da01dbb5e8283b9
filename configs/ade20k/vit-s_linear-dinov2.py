# DINOv2's own linear protocol, for comparison with its results: the last block after the final norm, batch norm and a
# 1x1 convolution; 40,000 iterations of 16 images at 512 px, padded evenly to patches of 14 px. 8 processes of 2 images.
_base_ = [
    "../_base_/models/segmentor_linear.py",
    "../_base_/datasets/ade20k_512.py",
    "../_base_/schedules/ade20k_linear_60k.py",
    "../_base_/mmseg_runtime.py",
]

custom_imports = dict(imports=["proteus.models.heads.bn_head"])
model = dict(
    data_preprocessor=dict(size=(512, 512), test_cfg=dict(size=(512, 512))),
    backbone=dict(
        out_indices=(11,),
        final_norm=True,
        center_padding=True,
        checkpoint="work_dirs/vit-s_dinov2-b/student.safetensors",
    ),
    decode_head=dict(
        _delete_=True,
        type="proteus.BNHead",
        in_channels=[384],
        in_index=[0],
        dropout_ratio=0.0,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    test_cfg=dict(crop_size=(512, 512), stride=(341, 341)),
)
# Resize the short side to 512 px, whatever the length of the other.
scale = (99999999, 512)
train_pipeline = [
    _base_.load_image,
    *_base_.load_mask,
    dict(_base_.random_resize, scale=scale),
    _base_.random_crop,
    *_base_.augmentation,
    _base_.pack,
]
test_pipeline = [
    _base_.load_image,
    dict(type="Resize", scale=scale, keep_ratio=True),
    *_base_.load_mask,
    _base_.pack,
]
train_dataloader = dict(batch_size=2, dataset=dict(dataset=dict(pipeline=train_pipeline)))
val_dataloader = dict(dataset=dict(dataset=dict(pipeline=test_pipeline)))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-4))
param_scheduler = [_base_.warmup, dict(_base_.decay, end=40000)]
auto_scale_lr = dict(base_batch_size=16)
train_cfg = dict(max_iters=40000)
