"""*Linear* on the composites that benchmarks/synthetic_dense.py makes.

It is configs/ade20k/vit-s_linear.py at a size and a length for one CPU. Seven classes, background among them.
Positions are interpolated from what the weights have.
"""

_base_ = "../../configs/ade20k/vit-s_linear.py"

data_root = "data/synthetic/ade"
classes = dict(
    classes=("background", "mammal", "bird", "food", "plant", "vehicle", "household"),
    palette=[
        (96, 96, 96),
        (214, 39, 40),
        (31, 119, 180),
        (255, 187, 40),
        (44, 160, 44),
        (148, 103, 189),
        (23, 190, 207),
    ],
)
size = (126, 126)  # 9 x 9 patches; scenes of 224 x 168 px become 168 x 126
iterations = 300

model = dict(
    data_preprocessor=dict(size=size, test_cfg=dict(size=(126, 168))),
    backbone=dict(img_size=126, checkpoint=None),
    decode_head=dict(num_classes=7),
    test_cfg=dict(_delete_=True, mode="whole"),
)
train_pipeline = _base_.train_pipeline
train_pipeline[2].num_classes = 7
train_pipeline[3].update(scale=(168, 126), ratio_range=(1.0, 1.3))
train_pipeline[4].update(crop_size=size, cat_max_ratio=0.9)
test_pipeline = _base_.test_pipeline
test_pipeline[1].scale = (168, 126)
test_pipeline[3].num_classes = 7
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type="BaseSegDataset",
            metainfo=classes,
            reduce_zero_label=True,
            img_suffix=".jpg",
            seg_map_suffix=".png",
            data_root=data_root,
            data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
            pipeline=train_pipeline,
        )
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type="BaseSegDataset",
            metainfo=classes,
            reduce_zero_label=True,
            img_suffix=".jpg",
            seg_map_suffix=".png",
            data_root=data_root,
            data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
            pipeline=test_pipeline,
            test_mode=True,
        )
    ),
)
test_dataloader = val_dataloader

param_scheduler = _base_.param_scheduler
param_scheduler[0].end = param_scheduler[1].begin = 20
param_scheduler[1].end = iterations
train_cfg = dict(max_iters=iterations, val_interval=iterations)
default_hooks = dict(checkpoint=dict(interval=iterations, max_keep_ckpts=1), logger=dict(interval=25))
