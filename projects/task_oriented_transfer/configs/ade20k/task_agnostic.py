# Step (d), the comparison: distil DINOv2-B's features of the same images into the same backbone, without the task.
_base_ = ["../_base_/transfer_set.py", "../_base_/schedule.py", "../_base_/runtime.py", "./task.py"]

work_dir = "work_dirs/ade20k/task_agnostic"
model = dict(
    type="Distiller",
    data_preprocessor=dict(type="DistillDataPreprocessor"),
    teacher=dict(
        type="Teacher",
        # 17 x 17 patches, as the student has at 518 px: nothing is resampled for the feature objective.
        img_size=238,
        backbone=dict(
            type="ViT", arch="base", patch_size=14, img_size=238, checkpoint="checkpoints/dinov2_vitb14_pretrain.pth"
        ),
    ),
    student=dict(type="TimmBackbone", arch=_base_.student.backbone.arch, img_size=518),
    # Without the patch objective: this timm student is not masked (mask_colour="mean" would do so).
    objectives=dict(token=dict(type="TokenObjective"), feature=dict(type="FeatureObjective", cls_term="token")),
)
train_pipeline = [dict(_base_.random_crop, scale=518), *_base_.augmentation]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=train_pipeline))
auto_scale_lr = dict(base_batch_size=32)
# Never validated: the student has no class scores.
train_cfg = dict(val_interval=1000000)
