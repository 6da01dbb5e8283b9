# As vit-s_dpt.py, for the student of configs/proteus/vit-ti_dinov2-s.py. Nothing was released for ViT-Ti. Its head has
# the same widths relative to the backbone as those of S, B and L (1/8, 1/4, 1/2, 1).
_base_ = "./vit-s_dpt.py"

model = dict(
    backbone=dict(arch="tiny", checkpoint="work_dirs/vit-ti_dinov2-s/student.safetensors"),
    decode_head=dict(embed_dims=192, post_process_channels=(24, 48, 96, 192)),
)
