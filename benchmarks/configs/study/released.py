"""The released recipe from random weights: its objectives and weights, and strong augmentation. Length and schedule are
those of the study, and each image is drawn once per epoch, as the released code does in a single process.
"""

_base_ = "./common.py"

train_pipeline = [
    dict(type="LoadRandomResizedCrop", scale=112, crop_ratio_range=(0.08, 1.0), interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="TimmRandAugment", policy="rand-m9-mstd0.5-inc1"),
    dict(type="ToTensor", dtype="uint8"),
    dict(type="RandomErasing", erase_prob=0.25),
    dict(type="UniformMask", ratio=0.5, patch_size=14),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
