# ViT-Ti/16 from DINOv3 ViT-S/16.
_base_ = "./vit-s_dinov3-b.py"

model = dict(
    teacher=dict(
        backbone=dict(
            arch="vit_small_patch16_dinov3",
            checkpoint="checkpoints/dinov3_vits16_pretrain_lvd1689m-08c60483.pth",
        )
    ),
    student=dict(arch="tiny"),
)
default_hooks = dict(export=dict(teacher="DINOv3 ViT-S/16 (Meta, DINOv3 License)"))
