"""Random weights, without training: one step at a rate that changes no weight."""

_base_ = "./common.py"

optim_wrapper = dict(optimizer=dict(lr=1e-12))
param_scheduler = None
train_cfg = dict(max_iters=1, val_interval=1)
