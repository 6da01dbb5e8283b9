# As vit-b_dpt.py, for the student of configs/proteus/vit-s_dinov2-b.py.
_base_ = "./vit-b_dpt.py"

model = dict(
    backbone=dict(arch="small", checkpoint="work_dirs/vit-s_dinov2-b/student.safetensors"),
    decode_head=dict(embed_dims=384, post_process_channels=(48, 96, 192, 384)),
)
optim_wrapper = dict(optimizer=dict(lr=4e-4))
