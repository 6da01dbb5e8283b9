"""The recipe of configs/proteus/vit-s_dinov2-b_plus.py: hidden states of all blocks from a sliced start, with Muon and
strong augmentation: crops from 0.08, RandAugment 9.
"""

_base_ = "./plus-sliced-mild.py"

train_pipeline = [
    dict(type="LoadRandomResizedCrop", scale=112, crop_ratio_range=(0.08, 1.0), interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="TimmRandAugment", policy="rand-m9-mstd0.5-inc1"),
    dict(type="ToTensor", dtype="uint8"),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
