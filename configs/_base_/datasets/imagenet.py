# ImageNet-1K as proxy set: labels are not read. Augmentation as released, which is DeiT's without mixup
# (docs/reproduction.md#distillation-data).
augmentation = [
    # Draws the crop first, and decodes only what it needs. With cache_last=True here and group_views=True in the
    # sampler, the three views of an image are decoded once and share a batch (released: they are on three ranks).
    dict(type="LoadRandomResizedCrop", scale=224, crop_ratio_range=(0.08, 1.0), interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="TimmRandAugment", policy="rand-m9-mstd0.5-inc1"),
    # Bytes; the device normalises them.
    dict(type="ToTensor", dtype="uint8"),
    # Draws the box here; the device writes the noise after normalisation.
    dict(type="RandomErasing", erase_prob=0.25),
]
# Paper: "the masking strategy in iBOT", which is dict(type="BlockMask", ratio=(0.1, 0.5)).
# Released: half of the patches, anywhere.
mask = dict(type="UniformMask", ratio=0.5, patch_size=14)
train_pipeline = [*augmentation, mask, dict(type="PackInputs")]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=256, interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]

train_dataloader = dict(
    # Paper: 8 x 128 = 1024. Released script: 4 x 128 = 512, with the learning rate scaled to match.
    batch_size=128,
    # Released: 10 per GPU. At 526 images/s per core (benchmarks/README.md), ten workers keep up with an S <- B step at
    # half of an H100's peak.
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    # Released: DeiT's repeated augmentation, three views of a third of the images per epoch; a single process draws
    # each image once.
    sampler=dict(type="ProxySampler", repeats=3),
    # Released: the first half of each process's batch is masked.
    collate_fn=dict(type="proteus.distill_collate", probability=0.5),
    dataset=dict(type="ImageFolder", data_root="data/imagenet/train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="proteus.distill_collate"),
    # Every 25th image: 2,000 of the 50,000, two of each class.
    dataset=dict(type="ImageFolder", data_root="data/imagenet/val", pipeline=val_pipeline, indices=range(0, 50000, 25)),
)
val_evaluator = dict(type="TeacherAgreement", patches_per_image=32)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
