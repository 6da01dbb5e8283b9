# ViT-Ti/14 and UperNet, fine-tuned. Paper: 40.7 mIoU. No config was released; ViT-S's settings here. 4 processes of 8
# images.
_base_ = "./vit-s_upernet.py"

model = dict(
    backbone=dict(arch="tiny", checkpoint="work_dirs/vit-ti_dinov2-s/student.safetensors"),
    neck=dict(embed_dim=192),
    decode_head=dict(in_channels=[192] * 4, channels=192),
    auxiliary_head=dict(in_channels=192),
)
