# ViT-S/16 from PE-Spatial ViT-B/16.
_base_ = "./vit-s_dinov3-b.py"

model = dict(
    teacher=dict(
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        backbone=dict(
            arch="vit_pe_spatial_base_patch16_512",
            checkpoint="checkpoints/vit_pe_spatial_base_patch16_512.fb.safetensors",
        ),
    ),
)
default_hooks = dict(export=dict(teacher="PE-Spatial ViT-B/16 (Meta, Apache-2.0)"))
