# ViT-B/14 by DINOv3's linear protocol (vit-s_linear-dinov3.py).
_base_ = "./vit-s_linear-dinov3.py"

model = dict(
    backbone=dict(arch="base", checkpoint="work_dirs/vit-b_dinov2-l/student.safetensors"),
    decode_head=dict(embed_dims=768),
)
