"""*Linear* (DPT's head on a frozen backbone) on the frames that benchmarks/synthetic_dense.py renders.

It is configs/nyu/vit-s_linear.py at a size and a length for one CPU, with a quarter of the head's width.
"""

_base_ = "../../configs/nyu/vit-s_linear.py"

data_root = "data/synthetic/nyu"
iterations = 200

model = dict(
    # What the backbones here were trained with, unlike the released recipe's 0.5.
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    backbone=dict(img_size=126, checkpoint=None, drop_path_rate=0.0),
    # Started at 0 m, as released, half of the pixels wait for hundreds of iterations.
    decode_head=dict(channels=64, initial_depth=2.0),
    test_cfg=dict(_delete_=True, mode="whole"),
)
train_pipeline = _base_.train_pipeline
train_pipeline[4].scale, train_pipeline[5].size, train_pipeline[10].size = (168, 126), 126, 126
train_pipeline[4].ratio_range = (1.0, 1.3)
test_pipeline = _base_.test_pipeline
test_pipeline[2].scale = (168, 126)
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

param_scheduler = _base_.param_scheduler
param_scheduler[0].end = param_scheduler[1].begin = 20
param_scheduler[1].end = iterations
train_cfg = dict(max_iters=iterations, val_interval=iterations)
# The last checkpoint, not the best on the test set.
default_hooks = dict(checkpoint=dict(interval=iterations, max_keep_ckpts=1, save_best=None), logger=dict(interval=25))
