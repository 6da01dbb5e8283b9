# ViT-S/16 from DINOv3 ViT-B/16. Weights: Meta's file, or timm's vit_base_patch16_dinov3.lvd1689m.
_base_ = "../vit-s_dinov2-b.py"

model = dict(
    teacher=dict(
        backbone=dict(
            _delete_=True,
            type="TimmBackbone",
            arch="vit_base_patch16_dinov3",
            img_size=224,
            checkpoint="checkpoints/dinov3_vitb16_pretrain_lvd1689m-73cec8be.pth",
        )
    ),
    student=dict(patch_size=16),
)
train_pipeline = [*_base_.augmentation, dict(type="UniformMask", ratio=0.5, patch_size=16), dict(type="PackInputs")]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(export=dict(teacher="DINOv3 ViT-B/16 (Meta, DINOv3 License)"))
