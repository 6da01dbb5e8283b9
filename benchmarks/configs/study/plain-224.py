"""plus-random at 224 px, with the teacher in bfloat16."""

_base_ = "./plus-random.py"

model = dict(teacher=dict(dtype="bfloat16", backbone=dict(img_size=224)), student=dict(img_size=224))
train_pipeline = _base_.train_pipeline
train_pipeline[0].scale = 224
val_pipeline = _base_.val_pipeline
val_pipeline[1].scale, val_pipeline[2].crop_size = 256, 224
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = val_dataloader
