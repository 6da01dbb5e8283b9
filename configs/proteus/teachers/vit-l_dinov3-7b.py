# ViT-L/16 from DINOv3 ViT-7B/16, which takes 13 GB of each GPU in bfloat16; model.teacher.shard=True spreads it.
_base_ = "../vit-l_dinov2-g.py"

model = dict(
    teacher=dict(
        backbone=dict(
            _delete_=True,
            type="TimmBackbone",
            arch="vit_7b_patch16_dinov3",
            img_size=224,
            checkpoint="checkpoints/dinov3_vit7b16_pretrain_lvd1689m-a955f4ea.pth",
        )
    ),
    student=dict(patch_size=16),
)
train_pipeline = [*_base_.augmentation, dict(type="UniformMask", ratio=0.5, patch_size=16), dict(type="PackInputs")]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(export=dict(teacher="DINOv3 ViT-7B/16 (Meta, DINOv3 License)"))
