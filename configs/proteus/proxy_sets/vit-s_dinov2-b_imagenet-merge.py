# ImageNet-Merge, 1,559,564 images (docs/reproduction.md#proxy-sets). As in the main recipe, 375,300 iterations of 1024
# images; here these are 246 epochs of 1523 iterations.
_base_ = [
    "../../_base_/models/distill_vit.py",
    "../../_base_/datasets/imagenet_merge.py",
    "../../_base_/schedules/deit_300e_1024.py",
    "../../_base_/distill_runtime.py",
]

model = dict(
    teacher=dict(backbone=dict(arch="base", checkpoint="checkpoints/dinov2_vitb14_pretrain.pth")),
    student=dict(arch="small"),
)
default_hooks = dict(export=dict(teacher="DINOv2 ViT-B/14 (Meta, Apache-2.0)"))
