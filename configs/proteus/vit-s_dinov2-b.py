# The main recipe: ViT-S/14 from DINOv2-B on ImageNet-1K (docs/reproduction.md#distillation). Others derive from it.
_base_ = [
    "../_base_/models/distill_vit.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/deit_300e_1024.py",
    "../_base_/distill_runtime.py",
]

model = dict(
    teacher=dict(backbone=dict(arch="base", checkpoint="checkpoints/dinov2_vitb14_pretrain.pth")),
    student=dict(arch="small"),
)
default_hooks = dict(export=dict(teacher="DINOv2 ViT-B/14 (Meta, Apache-2.0)"))
