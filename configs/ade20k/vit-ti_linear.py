# ViT-Ti/14 frozen, one 1x1 convolution. The setting was released for ViT-S only; the same numbers here.
_base_ = "./vit-s_linear.py"

model = dict(
    backbone=dict(arch="tiny", checkpoint="work_dirs/vit-ti_dinov2-s/student.safetensors"),
    decode_head=dict(in_channels=[192] * 4, channels=4 * 192),
)
