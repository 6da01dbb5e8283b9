# Table 18: the largest teacher for the same student. DINOv2-B is ../vit-s_dinov2-b.py.
_base_ = "../vit-s_dinov2-b.py"

model = dict(teacher=dict(backbone=dict(arch="giant", checkpoint="checkpoints/dinov2_vitg14_pretrain.pth")))
default_hooks = dict(export=dict(teacher="DINOv2 ViT-g/14 (Meta, Apache-2.0)"))
