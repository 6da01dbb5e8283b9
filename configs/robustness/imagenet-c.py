# ImageNet-C, released or written by tools/generate_imagenet_c.py: 15 corruptions x 5 severities x 50,000 images.
_base_ = "./imagenet-val.py"

test_pipeline = [
    dict(type="LoadImage"),
    # Images are 224 px already.
    dict(type="CenterCrop", crop_size=224),
    # For another image size, change this step alone, as proteus evaluate --img-size does.
    dict(type="ResizeSquare", scale=224, interpolation="bicubic"),
    dict(type="ToTensor"),
    dict(type="PackInputs", keys=("corruption", "severity")),
]
test_dataloader = dict(
    dataset=dict(_delete_=True, type="ImageNetC", data_root="data/imagenet-c", pipeline=test_pipeline),
)
test_evaluator = [dict(type="CorruptionError")]
