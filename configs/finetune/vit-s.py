# ViT-S/14 on ImageNet-1K, from the student of configs/proteus/vit-s_dinov2-b.py.
_base_ = "./vit-b.py"

model = dict(
    backbone=dict(arch="small", checkpoint="work_dirs/vit-s_dinov2-b/student.safetensors"), head=dict(in_channels=384)
)
# Layer decay 0.75 and 200 epochs: iBOT-S. Drop path 0.1 and 20 epochs of warm-up as for ViT-B: iBOT's defaults.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.75))
param_scheduler = [_base_.warmup, dict(_base_.cosine, end=200 * _base_.epoch)]
train_cfg = dict(max_iters=200 * _base_.epoch)
