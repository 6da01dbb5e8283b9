# ImageNet-C made on the fly from the validation images. For a fifth of the time:
# --cfg-options test_dataloader.dataset.images_per_class=10
_base_ = "./imagenet-c.py"

test_pipeline = [
    dict(type="LoadImage"),
    # As ImageNet-C was made: bilinear.
    dict(type="Resize", size=256, interpolation="bilinear"),
    dict(type="CenterCrop", size=224),
    dict(type="Corrupt"),
    dict(type="ToTensor"),
    dict(type="PackInputs", keys=("corruption", "severity")),
]
test_dataloader = dict(
    dataset=dict(type="GeneratedImageNetC", data_root="data/imagenet/val", pipeline=test_pipeline),
)
