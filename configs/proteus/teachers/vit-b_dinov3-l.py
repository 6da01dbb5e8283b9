# ViT-B/16 from DINOv3 ViT-L/16.
_base_ = "./vit-s_dinov3-b.py"

model = dict(
    teacher=dict(
        backbone=dict(
            arch="vit_large_patch16_dinov3",
            checkpoint="checkpoints/dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth",
        )
    ),
    student=dict(arch="base"),
)
default_hooks = dict(export=dict(teacher="DINOv3 ViT-L/16 (Meta, DINOv3 License)"))
