# As vit-b_dpt.py, for the student of configs/proteus/vit-l_dinov2-g.py.
_base_ = "./vit-b_dpt.py"

model = dict(
    backbone=dict(
        arch="large",
        out_indices=(7, 11, 15, 23),
        checkpoint="work_dirs/vit-l_dinov2-g/student.safetensors",
    ),
    decode_head=dict(embed_dims=1024, post_process_channels=(128, 256, 512, 1024)),
)
