"""*Linear* on the composites that benchmarks/synthetic_dense.py makes.

This is configs/ade20k/vit-s_linear.py with images and a schedule small enough for one CPU core, and seven classes, of
which one is the background. The position embedding is interpolated from the size that the weights have.
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
load_mask = [dict(type="LoadAnnotations"), dict(type="proteus.CheckLabels", num_classes=7)]
random_resize = dict(_base_.random_resize, scale=(168, 126), ratio_range=(1.0, 1.3))
random_crop = dict(_base_.random_crop, crop_size=size, cat_max_ratio=0.9)
train_pipeline = [
    _base_.load_image,
    *load_mask,
    random_resize,
    random_crop,
    *_base_.augmentation,
    _base_.pack,
]
test_pipeline = [
    _base_.load_image,
    dict(type="Resize", scale=(168, 126), keep_ratio=True),
    *load_mask,
    _base_.pack,
]
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

warmup = dict(_base_.warmup, end=20)
decay = dict(_base_.decay, begin=20, end=iterations)
param_scheduler = [warmup, decay]
train_cfg = dict(max_iters=iterations, val_interval=iterations)
default_hooks = dict(checkpoint=dict(interval=iterations, max_keep_ckpts=1), logger=dict(interval=25))
