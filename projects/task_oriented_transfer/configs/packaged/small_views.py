# Grey clothes of 28 x 28 pixels, enlarged: what two CPU cores do in minutes. compare.py fills in folders and seeds.
train_pipeline = [
    dict(type="LoadImage", keep=True),
    dict(type="RandomResizedCrop", size=56, scale=(0.5, 1.0), interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ToTensor", dtype="uint8"),
    dict(type="PackInputs"),
]
val_pipeline = [
    dict(type="LoadImage", keep=True),
    dict(type="Resize", size=56, interpolation="bicubic"),
    dict(type="CenterCrop", size=56),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]
