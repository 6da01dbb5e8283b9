# The student of configs/proteus/vit-b_dinov2-l.py with a DPT head, fine-tuned as released
# (docs/reproduction.md#nyu-depth-v2).
_base_ = [
    "../_base_/models/depth_dpt.py",
    "../_base_/datasets/nyu_518.py",
    "../_base_/schedules/depth_25k_16.py",
    "../_base_/depth_runtime.py",
]

model = dict(
    backbone=dict(arch="base", checkpoint="work_dirs/vit-b_dinov2-l/student.safetensors"),
    decode_head=dict(embed_dims=768, post_process_channels=(96, 192, 384, 768)),
)
