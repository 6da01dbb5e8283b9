# Base of the configs that `proteus distill` writes: the paper's objectives and optimizer, without data and schedule.
_base_ = [
    "./models/distill_vit.py",
    "./distill_runtime.py",
]

default_hooks = dict(
    # Folders of images have no classes, whatever their names look like.
    online_eval=dict(knn=None),
)

train_dataloader = dict(
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="ProxySampler", repeats=1),
    # The first half of each process's batch is masked, as released.
    collate_fn=dict(type="proteus.distill_collate", probability=0.5),
)
val_dataloader = dict(
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="proteus.distill_collate"),
)
val_evaluator = dict(type="TeacherAgreement", patches_per_image=32)
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="auto",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor="MergedGroupsConstructor",
    # Weight decay for matrices only, as released.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=10000, val_interval=1000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
