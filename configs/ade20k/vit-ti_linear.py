# ViT-Ti/14, frozen, with one 1x1 convolution. Released for ViT-S only; same settings here
# (docs/reproduction.md#ade20k).
_base_ = "./vit-s_linear.py"

model = dict(
    backbone=dict(arch="tiny", checkpoint="work_dirs/vit-ti_dinov2-s/student.safetensors"),
    decode_head=dict(in_channels=[192] * 4, channels=4 * 192),
)
