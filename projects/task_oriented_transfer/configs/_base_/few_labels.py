# EuroSAT in folders of classes, divided into train/ and test/; 10 labelled images of each class.
train_dataloader = dict(
    batch_size=50,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="ProxySampler", repeats=1),
    collate_fn=dict(type="distill_collate"),
    dataset=dict(
        type="LabelledFolder",
        data_root="data/eurosat/train",
        num_classes=10,
        images_per_class=10,
        # Another seed takes other labels. `adapt --seed` takes the same ones.
        subset_seed=0,
        pipeline=[
            dict(type="LoadRandomResizedCrop", size=224, scale=(0.4, 1.0), interpolation="bicubic"),
            dict(type="RandomFlip", prob=0.5),
            dict(type="RandAugment", policy="rand-m9-mstd0.5-inc1"),
            dict(type="ToTensor", dtype="uint8"),
            dict(type="PackInputs"),
        ],
    ),
)
