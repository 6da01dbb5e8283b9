# ImageNet-C generated from the validation images while they are read. To spend a fifth of the time:
# --cfg-options test_dataloader.dataset.images_per_class=10
_base_ = "./imagenet-c.py"

test_pipeline = [
    dict(type="LoadImage"),
    # Bilinear, as ImageNet-C was made.
    dict(type="ResizeEdge", scale=256, interpolation="bilinear"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="Corrupt"),
    # For another image size, change this step alone: the corruptions are those of 224 px.
    dict(type="ResizeSquare", scale=224, interpolation="bicubic"),
    dict(type="ToTensor"),
    dict(type="PackInputs", keys=("corruption", "severity")),
]
test_dataloader = dict(
    dataset=dict(type="GeneratedImageNetC", data_root="data/imagenet/val", pipeline=test_pipeline),
)
