# Table 18: a larger teacher for the same student. DINOv2-B is ../vit-s_dinov2-b.py.
_base_ = "../vit-s_dinov2-b.py"

model = dict(teacher=dict(backbone=dict(arch="large", checkpoint="checkpoints/dinov2_vitl14_pretrain.pth")))
default_hooks = dict(export=dict(teacher="DINOv2 ViT-L/14 (Meta, Apache-2.0)"))
