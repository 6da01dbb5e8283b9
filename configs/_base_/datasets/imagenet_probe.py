# Labelled ImageNet-1K for DINOv2's linear probe (docs/reproduction.md#linear-probe), in the layout DIR/CLASS/IMAGE.
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="RandomResizedCrop", scale=224, crop_ratio_range=(0.08, 1.0), interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=256, interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]

train_dataloader = dict(
    # 4 x 128 = 512. auto_scale_lr adapts the learning rates to other totals.
    batch_size=128,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="ProxySampler"),
    collate_fn=dict(type="proteus.distill_collate"),
    dataset=dict(type="LabelledFolder", data_root="data/imagenet/train", num_classes=1000, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="proteus.distill_collate"),
    dataset=dict(type="LabelledFolder", data_root="data/imagenet/val", num_classes=1000, pipeline=val_pipeline),
)
val_evaluator = [dict(type="ProbeAccuracy")]
test_dataloader = val_dataloader
# Top1Accuracy is that of the head that the checkpoint names as best; ProbeAccuracy selects the best head again.
test_evaluator = [dict(type="ProbeAccuracy"), dict(type="Top1Accuracy")]
