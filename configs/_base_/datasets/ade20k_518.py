# ADE20K (SceneParsing, 150 classes: 20,210 / 2,000 images) at 518 px, as released (docs/reproduction.md#ade20k), in the
# layout of ADEChallengeData2016.zip: images/{training,validation}/*.jpg, annotations/{training,validation}/*.png.
# For another size, give your own pipelines from the named steps below, as ade20k_512.py does.
crop_size = (518, 518)
scale = (2072, 518)

# Unlike OpenCV, this decoder scales 16-bit images and rejects truncated files (OpenCV fills them with grey).
load_image = dict(type="proteus.LoadBGRImage")
# ADE20KDataset maps label 0 (unlabelled) to 255, which is ignored, and labels 1 to 150 to 0 to 149.
load_mask = [
    dict(type="LoadAnnotations"),
    dict(type="proteus.CheckLabels", num_classes=150),
]
random_resize = dict(type="RandomResize", scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True)
random_crop = dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75)
augmentation = [dict(type="RandomFlip", prob=0.5), dict(type="PhotoMetricDistortion")]
pack = dict(type="PackSegInputs")

train_pipeline = [load_image, *load_mask, random_resize, random_crop, *augmentation, pack]
# The mask is loaded after resizing, so that metrics are computed at the original size.
test_pipeline = [load_image, dict(type="Resize", scale=scale, keep_ratio=True), *load_mask, pack]

train_dataloader = dict(
    batch_size=8,  # per process: 4 x 8 = 32
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="proteus.ProxySampler", shuffle=True),
    dataset=dict(
        type="proteus.SegmentationSet",
        dataset=dict(
            type="ADE20KDataset",
            data_root="data/ade/ADEChallengeData2016",
            data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
            pipeline=train_pipeline,
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,  # images differ in size
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="proteus.SegmentationSet",
        dataset=dict(
            type="ADE20KDataset",
            data_root="data/ade/ADEChallengeData2016",
            data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
            pipeline=test_pipeline,
            test_mode=True,
        ),
    ),
)
test_dataloader = val_dataloader
# mIoU, mAcc and aAcc, and the IoU and accuracy of each class.
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

# tools/test.py --tta: mmseg's usual six scales, each with its mirror image. The paper reports results without it.
tta_model = dict(type="SegTTAModel")
tta_scales = [(1036, 259), (1554, 388), (2072, 518), (2590, 648), (3108, 777), (3626, 906)]
tta_steps = [
    [dict(type="RandomFlip", prob=prob, direction="horizontal") for prob in (0.0, 1.0)],
    load_mask[:1],
    load_mask[1:],
    [pack],
]
tta_resize = [dict(type="Resize", scale=size, keep_ratio=True) for size in tta_scales]
tta_pipeline = [load_image, dict(type="TestTimeAug", transforms=[tta_resize, *tta_steps])]
