# Step (b): distil the adapted teacher's class scores of every pixel on unlabelled images. 8 images per process.
_base_ = ["../_base_/transfer_set.py", "../_base_/schedule.py", "../_base_/runtime.py", "./task.py"]

work_dir = "work_dirs/ade20k/task_oriented"
custom_imports = dict(imports=["projects.task_oriented_transfer.segmentation"])
model = dict(
    type="Distiller",
    data_preprocessor=dict(type="DistillDataPreprocessor"),
    teacher=dict(
        type="SegmentationTeacher",
        backbone=dict(
            init_cfg=dict(type="Pretrained", checkpoint="work_dirs/ade20k/teacher/iter_4000.pth"), **_base_.teacher
        ),
    ),
    student=_base_.student,
    objectives=dict(task=dict(type="PixelObjective", loss=dict(type="SoftLogitsLoss", temperature=1.0))),
)
# To use ADE20K's images without masks: data_root="data/ade/ADEChallengeData2016/images/training".
train_pipeline = [dict(_base_.random_crop, scale=518), *_base_.augmentation]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
auto_scale_lr = dict(base_batch_size=32)
# For mIoU: tools/test.py with finetune.py and the segmentor.pth written at the end.
train_cfg = dict(val_interval=1000000)
default_hooks = dict(export=dict(_delete_=True, type="ExportSegmentorHook"))
