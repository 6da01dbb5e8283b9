# ViT-L/14 from DINOv2-g.
_base_ = "./vit-s_dinov2-b.py"

model = dict(
    teacher=dict(backbone=dict(arch="giant", checkpoint="checkpoints/dinov2_vitg14_pretrain.pth")),
    student=dict(arch="large"),
)
default_hooks = dict(export=dict(teacher="DINOv2 ViT-g/14 (Meta, Apache-2.0)"))

# Paper: 8 x 32 = 256, limited by GPU memory; so 300 epochs are 300 x 5004 iterations, and lr = 5e-4 x 256 / 512
# (docs/reproduction.md#distillation-schedule).
train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=2.5e-4))
param_scheduler = dict(iters_per_epoch=5004)
auto_scale_lr = dict(base_batch_size=256)
train_cfg = dict(max_iters=1501200, val_interval=50040)
