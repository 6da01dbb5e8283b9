# NYU-Depth V2 as the Monocular-Depth-Estimation-Toolbox prepares it for DPT (docs/reproduction.md#nyu-depth-v2).
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadDepth"),
    dict(type="NYUCrop"),
    dict(type="DepthRandomRotate", prob=0.5, degree=2.5),
    dict(type="DepthRandomFlip", prob=0.5),
    dict(type="DepthRandomCrop", size=(416, 544)),
    dict(type="ToTensor"),
    # Gamma applies to pixels in [0, 1], as in BTS, where this augmentation is from. The toolbox applies it to pixels in
    # [0, 255], which saturates; for that: raw_gamma=True.
    dict(type="ColorAug", prob=0.5, gamma_range=(0.9, 1.1), brightness_range=(0.75, 1.25), color_range=(0.9, 1.1)),
    dict(type="PackDepth"),
]
test_pipeline = [dict(type="LoadImage"), dict(type="LoadDepth"), dict(type="ToTensor"), dict(type="PackDepth")]

train_dataloader = dict(
    # 8 x 2 = 16.
    batch_size=2,
    num_workers=2,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="ProxySampler"),
    collate_fn=dict(type="proteus.depth_collate"),
    dataset=dict(type="NYUDepth", data_root="data/nyu", split="train", depth_scale=1000, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="proteus.depth_collate"),
    dataset=dict(type="NYUDepth", data_root="data/nyu", split="test", depth_scale=1000, pipeline=test_pipeline),
)
val_evaluator = dict(
    type="DepthMetric", min_depth=1e-3, max_depth=10.0, crop="eigen", silog_lambda=1.0, silog_scale=100.0
)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
# tools/test.py --tta averages with the mirror image; here test_cfg.mode already does.
tta_model = dict(type="DepthFlipTTA")
tta_pipeline = test_pipeline
