# ViT-B/14 frozen, one 1x1 convolution. The setting was released for ViT-S only; the same numbers here.
_base_ = "./vit-s_linear.py"

model = dict(
    backbone=dict(arch="base", checkpoint="work_dirs/vit-b_dinov2-l/student.safetensors"),
    decode_head=dict(in_channels=[768] * 4, channels=4 * 768),
)
