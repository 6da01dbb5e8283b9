# Fashion-MNIST, enlarged from 28 x 28 grey pixels: minutes on two CPU cores. compare.py fills in folders and seeds.
test = dict(type="LabelledFolder", data_root="data/fashion-mnist/test", num_classes=10)
labelled = dict(test, data_root="data/fashion-mnist/train", images_per_class=10, subset_seed=0)
train_pipeline = [
    dict(type="LoadImage", cache_in_memory=True),
    dict(type="RandomResizedCrop", scale=56, crop_ratio_range=(0.5, 1.0), interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ToTensor", dtype="uint8"),
    dict(type="PackInputs"),
]
val_pipeline = [
    dict(type="LoadImage", cache_in_memory=True),
    dict(type="ResizeEdge", scale=56, interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=56),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]
