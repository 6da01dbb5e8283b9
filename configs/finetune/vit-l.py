# ViT-L/14 on ImageNet-1K, from the student of configs/proteus/vit-l_dinov2-g.py.
_base_ = "./vit-b.py"

model = dict(
    backbone=dict(
        arch="large",
        # 0.2: iBOT-L, BEiT-L, MAE-L.
        drop_path_rate=0.2,
        checkpoint="work_dirs/vit-l_dinov2-g/student.safetensors",
    ),
    head=dict(in_channels=1024),
)
# Layer decay 0.75, 50 epochs, 5 epochs of warm-up: iBOT-L, BEiT-L, MAE-L.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
param_scheduler = [
    dict(_base_.warmup, end=5 * _base_.epoch),
    dict(_base_.cosine, begin=5 * _base_.epoch, end=50 * _base_.epoch),
]
train_cfg = dict(max_iters=50 * _base_.epoch)
