"""mobilenet without training: 100 steps at a rate that changes no weight give batch normalisation its statistics."""

_base_ = "./mobilenet.py"

optim_wrapper = dict(optimizer=dict(lr=1e-12))
param_scheduler = None
train_cfg = dict(max_iters=100, val_interval=100)
