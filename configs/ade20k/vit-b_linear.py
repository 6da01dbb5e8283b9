# ViT-B/14, frozen, with one 1x1 convolution. Released for ViT-S only; same settings here (docs/reproduction.md#ade20k).
_base_ = "./vit-s_linear.py"

model = dict(
    backbone=dict(arch="base", checkpoint="work_dirs/vit-b_dinov2-l/student.safetensors"),
    decode_head=dict(in_channels=[768] * 4, channels=4 * 768),
)
