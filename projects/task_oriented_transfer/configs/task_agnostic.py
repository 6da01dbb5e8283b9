# Step (d), the comparison: distil DINOv2-B's features of the same images into FastViT, without a target.
_base_ = ["./_base_/transfer_set.py", "./_base_/schedule.py", "./_base_/runtime.py"]

model = dict(
    type="Distiller",
    data_preprocessor=dict(type="DistillDataPreprocessor"),
    teacher=dict(
        type="Teacher",
        backbone=dict(
            type="ViT", arch="base", patch_size=14, img_size=224, checkpoint="checkpoints/dinov2_vitb14_pretrain.pth"
        ),
    ),
    student=dict(type="TimmBackbone", arch="fastvit_s12", img_size=224),
    # The token objective only; the patch objective would need a student that can be masked.
    objectives=dict(token=dict(type="TokenObjective")),
)
# Never validated: the student has no class scores.
train_cfg = dict(val_interval=1000000)
