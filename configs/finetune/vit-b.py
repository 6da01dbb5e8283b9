# ViT-B/14 on ImageNet-1K, from the student of configs/proteus/vit-b_dinov2-l.py. Epochs, layer decay and warm-up:
# iBOT-B.
_base_ = [
    "../_base_/models/classifier_vit.py",
    "../_base_/datasets/imagenet_finetune.py",
    "../_base_/schedules/finetune_100e_1024.py",
    "../_base_/classifier_runtime.py",
]

model = dict(
    backbone=dict(
        arch="base",
        # 0.1: iBOT-B, BEiT-B, MAE-B.
        drop_path_rate=0.1,
        checkpoint="work_dirs/vit-b_dinov2-l/student.safetensors",
    ),
    head=dict(in_channels=768),
)
