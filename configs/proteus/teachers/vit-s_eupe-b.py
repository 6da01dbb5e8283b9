# ViT-S/16 from EUPE ViT-B/16, for research only.
_base_ = "./vit-s_dinov3-b.py"

model = dict(
    teacher=dict(
        backbone=dict(
            arch="vit_base_patch16_dinov3_qkvb",
            checkpoint="checkpoints/vit_base_patch16_dinov3_qkvb.eupe_lvd1689m.safetensors",
        ),
    ),
)
default_hooks = dict(export=dict(teacher="EUPE ViT-B/16 (Meta, FAIR Noncommercial Research License)"))
