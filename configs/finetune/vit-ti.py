# ViT-Ti/14 on ImageNet-1K, from the student of configs/proteus/vit-ti_dinov2-s.py. iBOT has no Ti; the recipe is
# MAE-Lite's.
_base_ = "./vit-b.py"

model = dict(
    backbone=dict(
        arch="tiny",
        # 0: MAE-Lite-Ti. MAE-Lite also regularises less (Mixup 0.2, no CutMix, label smoothing or erasing); here these
        # are as for the other sizes, and as DeiT-Ti is trained.
        drop_path_rate=0.0,
        checkpoint="work_dirs/vit-ti_dinov2-s/student.safetensors",
    ),
    head=dict(in_channels=192),
)
# Layer decay 0.85 and 300 epochs: MAE-Lite-Ti. Learning rate and warm-up as for the other sizes (MAE-Lite: 4e-3 and 5
# epochs).
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.85))
param_scheduler = [_base_.warmup, dict(_base_.cosine, end=300 * _base_.epoch)]
train_cfg = dict(max_iters=300 * _base_.epoch)
