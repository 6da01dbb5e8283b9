# Steps (c) and (e), and training from scratch, on packaged data.
_base_ = ["../_base_/finetune.py", "./task.py"]

model = dict(
    student=dict(arch="mobilenetv4_conv_small_050", img_size=56, checkpoint=None),
    objectives=dict(task=dict(num_classes=10)),
)
train_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(**_base_.labelled, pipeline=_base_.train_pipeline),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(**_base_.test, pipeline=_base_.val_pipeline),
)
test_dataloader = val_dataloader
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=False, begin=0, end=15),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=False, begin=15, end=150),
]
train_cfg = dict(max_iters=150, val_interval=150)
default_hooks = dict(checkpoint=dict(interval=150, max_keep_ckpts=1))
