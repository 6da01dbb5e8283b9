# The test images: accuracy of the student, and of the teacher where it classifies. Which ones is a target's task.py.
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
            dict(type="Resize", size=224, interpolation="bicubic"),
            dict(type="CenterCrop", size=224),
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
