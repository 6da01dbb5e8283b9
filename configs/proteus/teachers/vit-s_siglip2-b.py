# ViT-S/16 from SigLIP2 ViT-B/16. Its cls token is what its attention pooling gives.
_base_ = "./vit-s_dinov3-b.py"

model = dict(
    teacher=dict(
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        backbone=dict(
            arch="vit_base_patch16_siglip_224",
            checkpoint="checkpoints/vit_base_patch16_siglip_224.v2_webli.safetensors",
        ),
    ),
)
default_hooks = dict(export=dict(teacher="SigLIP2 ViT-B/16 (Google, Apache-2.0)"))
