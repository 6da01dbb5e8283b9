"""*Linear* on CamVid, for students of benchmarks/study.py (docs/study.md#camvid-through-mmseg).

This is configs/ade20k/vit-ti_linear.py with the eleven classes of CamVid, frames of 480 x 360 px, and a schedule small
enough for a CPU. The frames of `val` are left for choices.
"""

_base_ = "../../configs/ade20k/vit-ti_linear.py"

data_root = "data/study/camvid"
# Label 11 is void.
names = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")
void = len(names)
side = 224
iterations = 400

model = dict(
    data_preprocessor=dict(size=(side, side), seg_pad_val=void, test_cfg=dict(size=(side, side))),
    backbone=dict(img_size=side, checkpoint=None),
    decode_head=dict(num_classes=void, ignore_index=void),
    test_cfg=dict(crop_size=(side, side), stride=(136, 128)),
)
load_mask = [dict(type="LoadAnnotations"), dict(type="proteus.CheckLabels", num_classes=void, ignore_index=void)]
random_resize = dict(_base_.random_resize, scale=(480, 360), ratio_range=(0.75, 1.5))
random_crop = dict(_base_.random_crop, crop_size=(side, side), ignore_index=void)
train_pipeline = [_base_.load_image, *load_mask, random_resize, random_crop, *_base_.augmentation, _base_.pack]
test_pipeline = [_base_.load_image, *load_mask, _base_.pack]
camvid = dict(
    _delete_=True,
    type="BaseSegDataset",
    metainfo=dict(classes=names),
    ignore_index=void,
    img_suffix=".jpg",
    seg_map_suffix=".png",
    data_root=data_root,
)
train_dataloader = dict(
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        dataset=dict(
            camvid,
            data_prefix=dict(img_path="images/train", seg_map_path="annotations/train"),
            pipeline=train_pipeline,
        )
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        dataset=dict(
            camvid,
            data_prefix=dict(img_path="images/test", seg_map_path="annotations/test"),
            pipeline=test_pipeline,
            test_mode=True,
        )
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ignore_index=void)
test_evaluator = val_evaluator

warmup = dict(_base_.warmup, end=20)
decay = dict(_base_.decay, begin=20, end=iterations)
param_scheduler = [warmup, decay]
train_cfg = dict(max_iters=iterations, val_interval=iterations)
default_hooks = dict(checkpoint=dict(interval=iterations, max_keep_ckpts=1), logger=dict(interval=25))
