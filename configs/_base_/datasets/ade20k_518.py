# ADE20K (SceneParsing, 150 classes: 20,210 / 2,000 images) at 518 px, as released (docs/reproduction.md#ade20k), in the
# layout of ADEChallengeData2016.zip: images/{training,validation}/*.jpg, annotations/{training,validation}/*.png.
# The package's own decoder: 16-bit images are scaled, and truncated files are refused, of which OpenCV makes grey ones.
load_image = dict(type="proteus.LoadBGRImage")
# Label 0 is no class: ADE20KDataset has it become 255, which counts nowhere, and 1 to 150 become 0 to 149.
load_mask = [
    dict(type="LoadAnnotations"),
    dict(type="proteus.CheckLabels", num_classes=150),
]
train_pipeline = [
    load_image,
    *load_mask,
    dict(type="RandomResize", scale=(2072, 518), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(518, 518), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
# The mask is loaded after resizing, so that the figures are of the original sizes.
test_pipeline = [
    load_image,
    dict(type="Resize", scale=(2072, 518), keep_ratio=True),
    *load_mask,
    dict(type="PackSegInputs"),
]

train_dataloader = dict(
    batch_size=8,  # a process; 4 processes make the protocol's 32
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
# mIoU, mAcc and aAcc, and IoU and accuracy of each class.
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

# tools/test.py --tta: six scales and their mirror images, mmseg's usual set. The paper's figures are without.
tta_model = dict(type="SegTTAModel")
tta_pipeline = [
    load_image,
    dict(
        type="TestTimeAug",
        transforms=[
            [
                dict(type="Resize", scale=scale, keep_ratio=True)
                for scale in [(1036, 259), (1554, 388), (2072, 518), (2590, 648), (3108, 777), (3626, 906)]
            ],
            [
                dict(type="RandomFlip", prob=0.0, direction="horizontal"),
                dict(type="RandomFlip", prob=1.0, direction="horizontal"),
            ],
            load_mask[:1],
            load_mask[1:],
            [dict(type="PackSegInputs")],
        ],
    ),
]
