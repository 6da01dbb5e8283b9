# Unlabelled images. For those that `retrieve` selected, set dataset.data_root to the folder that it printed and
# dataset.list_file to OUT/proxy_set.txt.
random_crop = dict(type="LoadRandomResizedCrop", scale=224, crop_ratio_range=(0.08, 1.0), interpolation="bicubic")
augmentation = [
    dict(type="RandomFlip", prob=0.5),
    dict(type="TimmRandAugment", policy="rand-m9-mstd0.5-inc1"),
    dict(type="ToTensor", dtype="uint8"),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="ProxySampler", repeats=1),
    collate_fn=dict(type="proteus.distill_collate"),
    dataset=dict(
        type="ImageFolder",
        data_root="data/cc3m",
        list_file=None,
        pipeline=[random_crop, *augmentation],
    ),
)
