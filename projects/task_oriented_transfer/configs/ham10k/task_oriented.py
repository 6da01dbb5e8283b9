# Step (b): distil what the adapted teacher says of unlabelled images.
_base_ = ["../_base_/task_oriented.py", "./task.py"]

# What `adapt` wrote, or a checkpoint of teacher_finetune.py; one file holds backbone and head.
taught = f"work_dirs/{_base_.target}/adapted.pth"
model = dict(
    teacher=dict(
        backbone=dict(checkpoint=taught),
        classifier=dict(num_classes=_base_.num_classes, checkpoint=taught),
    ),
    objectives=dict(task=dict(num_classes=_base_.num_classes)),
)
val_dataloader = dict(dataset=_base_.test)
test_dataloader = val_dataloader
work_dir = f"work_dirs/{_base_.target}/task_oriented"
