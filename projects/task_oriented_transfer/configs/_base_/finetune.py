# Steps (c) and (e), and training from scratch: FastViT on a target's few labels, here from random weights.
_base_ = ["./few_labels.py", "./target_test.py", "./schedule.py", "./runtime.py"]

model = dict(
    type="Distiller",
    data_preprocessor=dict(type="DistillDataPreprocessor"),
    teacher=dict(type="NoTeacher"),
    student=dict(type="TimmBackbone", arch="fastvit_s12", img_size=224),
    objectives=dict(task=dict(type="LabelObjective")),
)
# 250 epochs of EuroSAT's 100 images.
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-2, by_epoch=False, begin=0, end=25),
    dict(type="CosineAnnealingLR", eta_min=1e-6, by_epoch=False, begin=25, end=500),
]
auto_scale_lr = dict(base_batch_size=50)
train_cfg = dict(max_iters=500, val_interval=500)
default_hooks = dict(checkpoint=dict(interval=500))
