# Images for frozen features, as in DINOv2's evaluation, without random steps (docs/reproduction.md#linear-probe).
pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=256, interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]
