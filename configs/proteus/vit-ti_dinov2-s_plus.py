# ViT-Ti/14 from DINOv2-S with the recipe of vit-s_dinov2-b_plus.py.
_base_ = "./vit-s_dinov2-b_plus.py"

model = dict(
    teacher=dict(backbone=dict(arch="small", checkpoint="checkpoints/dinov2_vits14_pretrain.pth")),
    student=dict(arch="tiny"),
)
default_hooks = dict(export=dict(teacher="DINOv2 ViT-S/14 (Meta, Apache-2.0)"))
