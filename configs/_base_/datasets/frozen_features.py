# How images are prepared for frozen features: nothing is random. Protocols C.1: DINOv2's evaluation.
pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", size=256, interpolation="bicubic"),
    dict(type="CenterCrop", size=224),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]
