_base_ = [
    "../_base_/models/distill_vit.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/deit_300e_1024.py",
    "../_base_/distill_runtime.py",
]

# Two students of one teacher, which sees each image once: each gets the recipe of vit-s_dinov2-b.py.
alone = _base_.model
model = dict(
    _delete_=True,
    type="MultiStudentDistiller",
    data_preprocessor=alone.data_preprocessor,
    teacher=dict(
        type="Teacher",
        backbone=dict(**alone.teacher.backbone, arch="base", checkpoint="checkpoints/dinov2_vitb14_pretrain.pth"),
    ),
    students=dict(
        tiny=dict(student=dict(**alone.student, arch="tiny"), objectives=alone.objectives),
        small=dict(student=dict(**alone.student, arch="small"), objectives=alone.objectives),
    ),
)
default_hooks = dict(export=dict(teacher="DINOv2 ViT-B/14 (Meta, Apache-2.0)"))
