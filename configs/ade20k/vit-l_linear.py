# ViT-L/14, frozen, with one 1x1 convolution. Released for ViT-S only; same settings here, on the blocks that UperNet
# uses for ViT-L (docs/reproduction.md#ade20k).
_base_ = "./vit-s_linear.py"

model = dict(
    backbone=dict(arch="large", out_indices=(7, 11, 15, 23), checkpoint="work_dirs/vit-l_dinov2-g/student.safetensors"),
    decode_head=dict(in_channels=[1024] * 4, channels=4 * 1024),
)
