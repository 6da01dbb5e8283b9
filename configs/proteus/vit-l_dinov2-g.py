_base_ = [
    "../_base_/models/distill_vit.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/deit_300e_1024.py",
    "../_base_/distill_runtime.py",
]

model = dict(
    teacher=dict(backbone=dict(arch="giant", checkpoint="checkpoints/dinov2_vitg14_pretrain.pth")),
    student=dict(arch="large"),
)
default_hooks = dict(export=dict(teacher="DINOv2 ViT-g/14 (Meta, Apache-2.0)"))

# Paper: 8 x 32 = 256, for want of memory; 300 epochs are then 300 x 5004 iterations, and lr = 5e-4 x 256 / 512.
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
param_scheduler = dict(iters_per_epoch=5004)
auto_scale_lr = dict(base_batch_size=256)
train_cfg = dict(max_iters=1501200, val_interval=50040)
