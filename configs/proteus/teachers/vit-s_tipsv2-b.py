# ViT-S/14 from TIPSv2 ViT-B/14, which takes pixels in [0, 1] as they are and has a register.
_base_ = "../vit-s_dinov2-b.py"

model = dict(
    teacher=dict(
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        backbone=dict(
            arch="vit_base_patch14_reg1_tipsv2",
            reg_tokens=1,
            interpolate_offset=0.0,
            checkpoint="checkpoints/vit_base_patch14_reg1_tipsv2.webli.safetensors",
        ),
    ),
)
default_hooks = dict(export=dict(teacher="TIPSv2 ViT-B/14 (Google, Apache-2.0)"))
