# 160,000 iterations of 16 images, validated ten times.
_base_ = "./ade20k_upernet_60k.py"

decay = dict(_base_.decay, end=160000)
param_scheduler = [_base_.warmup, decay]
auto_scale_lr = dict(base_batch_size=16)
train_cfg = dict(max_iters=160000, val_interval=16000)
