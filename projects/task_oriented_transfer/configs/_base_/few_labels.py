# The labelled images; each target's task.py selects them.
train_dataloader = dict(
    batch_size=50,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="ProxySampler", repeats=1),
    collate_fn=dict(type="proteus.distill_collate"),
    dataset=dict(
        pipeline=[
            dict(type="LoadRandomResizedCrop", scale=224, crop_ratio_range=(0.4, 1.0), interpolation="bicubic"),
            dict(type="RandomFlip", prob=0.5),
            dict(type="TimmRandAugment", policy="rand-m9-mstd0.5-inc1"),
            dict(type="ToTensor", dtype="uint8"),
            dict(type="PackInputs"),
        ],
    ),
)
