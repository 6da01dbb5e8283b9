# Step (b) on packaged data: distil into the student of finetune.py on the scenes without their masks.
_base_ = ["../_base_/transfer_set.py", "../_base_/schedule.py", "../_base_/runtime.py", "./task.py"]

custom_imports = dict(imports=["projects.task_oriented_transfer.segmentation"])
model = dict(
    type="Distiller",
    data_preprocessor=dict(type="DistillDataPreprocessor"),
    teacher=dict(
        type="SegmentationTeacher",
        img_size=126,
        backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="work_dirs/teacher/iter_150.pth"), **_base_.teacher),
    ),
    student=_base_.student,
    objectives=dict(task=dict(type="PixelObjective")),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        data_root="data/synthetic/ade/images/training",
        pipeline=[
            dict(type="LoadImage", cache_in_memory=True),
            dict(type="RandomResizedCrop", scale=192, crop_ratio_range=(0.3, 1.0), interpolation="bicubic"),
            dict(type="RandomFlip", prob=0.5),
            dict(type="ToTensor", dtype="uint8"),
            dict(type="PackInputs"),
        ],
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=False, begin=20, end=150),
]
optim_wrapper = dict(optimizer=dict(lr=3e-3))
auto_scale_lr = dict(base_batch_size=16)
train_cfg = dict(max_iters=150, val_interval=1000000)
default_hooks = dict(
    checkpoint=dict(interval=150, max_keep_ckpts=1), export=dict(_delete_=True, type="ExportSegmentorHook")
)
