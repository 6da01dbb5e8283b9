"""Views of teacher and student shifted by up to two patches: crops of 140 px for windows of 112."""

_base_ = "./common.py"

model = dict(data_preprocessor=dict(type="ShiftDataPreprocessor", shift=2))
crop = dict(type="LoadRandomResizedCrop", scale=140, crop_ratio_range=(0.4, 1.0), interpolation="bicubic")
train_pipeline = [crop, *_base_.train_pipeline[1:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
