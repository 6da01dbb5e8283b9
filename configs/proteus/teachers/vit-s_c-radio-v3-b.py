# ViT-S/16 from C-RADIOv3 ViT-B/16: the first of its eight prefix tokens is its cls token.
_base_ = "./vit-s_dinov3-b.py"

model = dict(
    teacher=dict(
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        backbone=dict(
            _delete_=True,
            type="ViT",
            arch="vit_base_patch16_radio_v3",
            img_size=224,
            patch_size=16,
            reg_tokens=7,
            interpolate_offset=0.0,
            checkpoint="checkpoints/vit_base_patch16_radio_v3.c_radio.safetensors",
        ),
    ),
)
default_hooks = dict(export=dict(teacher="C-RADIOv3 ViT-B/16 (NVIDIA, NVIDIA Open Model License)"))
