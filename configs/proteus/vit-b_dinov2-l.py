# ViT-B/14 from DINOv2-L.
_base_ = "./vit-s_dinov2-b.py"

model = dict(
    teacher=dict(backbone=dict(arch="large", checkpoint="checkpoints/dinov2_vitl14_pretrain.pth")),
    student=dict(arch="base"),
)
default_hooks = dict(export=dict(teacher="DINOv2 ViT-L/14 (Meta, Apache-2.0)"))
