# ViT-S/16 from PE-Core ViT-B/16: the cls token only, as for CLIP (configs/proteus/vit-b_clip-l.py).
_base_ = "./vit-s_dinov3-b.py"

model = dict(
    teacher=dict(
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        backbone=dict(
            arch="vit_pe_core_base_patch16_224",
            checkpoint="checkpoints/vit_pe_core_base_patch16_224.fb.safetensors",
        ),
    ),
    student=dict(mask_token=False),
    objectives=dict(feature=None, patch=None),
)
train_pipeline = [*_base_.augmentation, dict(type="PackInputs")]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(export=dict(teacher="PE-Core ViT-B/16 (Meta, Apache-2.0)"))
