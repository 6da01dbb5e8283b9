# Unlabelled images. What `retrieve` wrote: dataset.data_root as it printed it, and dataset.list_file=OUT/proxy_set.txt
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
        pipeline=[
            dict(type="LoadRandomResizedCrop", size=224, scale=(0.08, 1.0), interpolation="bicubic"),
            dict(type="RandomFlip", prob=0.5),
            dict(type="RandAugment", policy="rand-m9-mstd0.5-inc1"),
            dict(type="ToTensor", dtype="uint8"),
            dict(type="PackInputs"),
        ],
    ),
)
