# ViT-L/14 frozen, one 1x1 convolution. The setting was released for ViT-S only; the same numbers here, with the blocks
# that UperNet takes of ViT-L.
_base_ = "./vit-s_linear.py"

model = dict(
    backbone=dict(arch="large", out_indices=(7, 11, 15, 23), checkpoint="work_dirs/vit-l_dinov2-g/student.safetensors"),
    decode_head=dict(in_channels=[1024] * 4, channels=4 * 1024),
)
