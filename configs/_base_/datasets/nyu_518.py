# NYU-Depth V2 at 518 px as the released code prepares it (docs/reproduction.md#nyu-depth-v2):
# 24,231 pairs for training, 654 for testing.
# For another size, give your own pipelines from the named steps below.
load = [dict(type="LoadImage"), dict(type="LoadDepth")]
# Released: 16-bit millimetres are written into the 8-bit image and wrap around. wrap=False paints depth as grey.
cut_depth = dict(type="CutDepth", prob=0.25, wrap=True)
random_flip = dict(type="DepthRandomFlip", prob=0.5)
random_resize = dict(type="DepthRandomResize", scale=(770, 512), ratio_range=(0.8, 1.5))
random_crop = dict(type="DepthRandomCrop", size=518)
photometric = [
    dict(type="RandomBrightnessContrast", prob=0.5),
    dict(type="RandomGamma", prob=0.5),
    dict(type="HueSaturationValue", prob=0.5),
]
to_tensor = dict(type="ToTensor")
# The mean, which is 0 after normalisation. Padded depth is 0, which is ignored.
pad = dict(type="DepthPad", size=518, fill=0.5)
pack = dict(type="PackDepth")

train_pipeline = [*load, cut_depth, random_flip, random_resize, random_crop, *photometric, to_tensor, pad, pack]
# Only the image is resized: the ground truth stays 480x640.
test_pipeline = [*load, dict(type="ResizeImage", scale=(2044, 518)), to_tensor, pack]

train_dataloader = dict(
    # 4 x 4 = 16.
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="ProxySampler"),
    collate_fn=dict(type="proteus.depth_collate"),
    dataset=dict(type="NYUDepth", data_root="data/nyu", split="train", depth_scale=1000, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="proteus.depth_collate"),
    dataset=dict(type="NYUDepth", data_root="data/nyu", split="test", depth_scale=1000, pipeline=test_pipeline),
)
# silog as mmseg computes it, with predictions left unclamped.
val_evaluator = dict(
    type="DepthMetric", min_depth=1e-3, max_depth=10.0, crop="eigen", clamp=False, silog_lambda=0.5, silog_scale=1.0
)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
# tools/test.py --tta averages with the mirror image; here test_cfg.mode already does.
tta_model = dict(type="DepthFlipTTA")
tta_pipeline = test_pipeline
