# ViT-Ti/14 on ImageNet-1K, from the backbone that vit-ti_dinov2-s.py distils. iBOT has no Ti; MAE-Lite's recipe is one.
_base_ = "./vit-b.py"

model = dict(
    backbone=dict(
        arch="tiny",
        # 0: MAE-Lite-Ti. It also weakens the mixing (mixup 0.2, no CutMix, no smoothing, no erasing); here as for the
        # others, as DeiT-Ti is trained.
        drop_path_rate=0.0,
        checkpoint="work_dirs/vit-ti_dinov2-s/student.safetensors",
    ),
    head=dict(in_channels=192),
)
# 0.85 and 300 epochs: MAE-Lite-Ti. Learning rate and warm-up as the others (MAE-Lite: 4e-3, 5 epochs).
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.85))
param_scheduler = [_base_.warmup, dict(_base_.cosine, end=300 * _base_.epoch)]
train_cfg = dict(max_iters=300 * _base_.epoch)
