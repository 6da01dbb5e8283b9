# The test images, selected by each target's task.py. Reports the accuracy of student and teacher.
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="proteus.distill_collate"),
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="ResizeEdge", scale=224, interpolation="bicubic"),
            dict(type="CenterCrop", crop_size=224),
            dict(type="ToTensor"),
            dict(type="PackInputs"),
        ],
    ),
)
val_evaluator = dict(type="StudentTeacherAccuracy")
test_dataloader = val_dataloader
test_evaluator = val_evaluator
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
