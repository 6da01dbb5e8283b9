_base_ = [
    "../_base_/models/distill_vit.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/deit_300e_1024.py",
    "../_base_/distill_runtime.py",
]

model = dict(
    teacher=dict(backbone=dict(arch="small", checkpoint="checkpoints/dinov2_vits14_pretrain.pth")),
    student=dict(arch="tiny"),
)
default_hooks = dict(export=dict(teacher="DINOv2 ViT-S/14 (Meta, Apache-2.0)"))
