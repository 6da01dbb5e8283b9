# Step (a): train a linear head on frozen DINOv2-B with the labelled images. 4 processes of 8 images.
_base_ = [
    "../../../../configs/_base_/models/segmentor.py",
    "../../../../configs/_base_/datasets/ade20k_518.py",
    "../../../../configs/_base_/schedules/ade20k_linear_60k.py",
    "../../../../configs/_base_/mmseg_runtime.py",
    "./task.py",
]

work_dir = "work_dirs/ade20k/teacher"
model = dict(
    backbone=dict(_base_.teacher.backbone, _delete_=True, checkpoint="checkpoints/dinov2_vitb14_pretrain.pth"),
    decode_head=_base_.teacher.decode_head,
)
train_dataloader = dict(dataset=dict(dataset=dict(indices=_base_.labelled)))
# Chosen here: 127 epochs of 1,011 images.
param_scheduler = [dict(_base_.warmup, end=400), dict(_base_.decay, begin=400, end=4000)]
train_cfg = dict(max_iters=4000, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
