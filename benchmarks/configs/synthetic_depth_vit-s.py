"""*Linear* (DPT's head on a frozen backbone) on the frames that benchmarks/synthetic_dense.py renders.

This is configs/nyu/vit-s_linear.py with images and a schedule small enough for one CPU core, and a head of a quarter of
its width.
"""

_base_ = "../../configs/nyu/vit-s_linear.py"

data_root = "data/synthetic/nyu"
iterations = 200

model = dict(
    # The statistics that the backbones here were trained with, instead of the released recipe's 0.5.
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    backbone=dict(img_size=126, checkpoint=None, drop_path_rate=0.0),
    # Starting at 0 m, as released, half of the pixels do not improve for hundreds of iterations.
    decode_head=dict(channels=64, initial_depth=2.0),
    test_cfg=dict(_delete_=True, mode="whole"),
)
train_pipeline = [
    *_base_.load,
    _base_.cut_depth,
    _base_.random_flip,
    dict(_base_.random_resize, scale=(168, 126), ratio_range=(1.0, 1.3)),
    dict(_base_.random_crop, size=126),
    *_base_.photometric,
    _base_.to_tensor,
    dict(_base_.pad, size=126),
    _base_.pack,
]
test_pipeline = [*_base_.load, dict(type="ResizeImage", scale=(168, 126)), _base_.to_tensor, _base_.pack]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root=data_root, pipeline=train_pipeline),
)
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data_root=data_root, pipeline=test_pipeline)
)
test_dataloader = val_dataloader

warmup = dict(_base_.warmup, end=20)
decay = dict(_base_.decay, begin=20, end=iterations)
param_scheduler = [warmup, decay]
train_cfg = dict(max_iters=iterations, val_interval=iterations)
# The last checkpoint, not the best on the test set.
default_hooks = dict(checkpoint=dict(interval=iterations, max_keep_ckpts=1, save_best=None), logger=dict(interval=25))
