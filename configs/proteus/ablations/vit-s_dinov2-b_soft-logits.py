# Table 1, "soft logits" with KL, without labels.
_base_ = [
    "../../_base_/models/distill_logits.py",
    "../../_base_/datasets/imagenet_labels.py",
    "../../_base_/schedules/deit_300e_1024.py",
    "../../_base_/distill_runtime.py",
]

model = dict(
    teacher=dict(
        backbone=dict(arch="base", checkpoint="checkpoints/dinov2_vitb14_pretrain.pth"),
        classifier=dict(checkpoint="checkpoints/dinov2_vitb14_linear4_head.pth"),
    ),
    student=dict(arch="small"),
)
default_hooks = dict(export=dict(teacher="DINOv2 ViT-B/14 with its ImageNet classifier (Meta, Apache-2.0)"))
