# Step (b): distil the adapted teacher's class predictions on unlabelled images.
_base_ = ["../_base_/task_oriented.py", "./task.py"]

# The output of `adapt`, or a checkpoint of teacher_finetune.py; either has backbone and head.
adapted = f"work_dirs/{_base_.target}/adapted.pth"
model = dict(
    teacher=dict(
        backbone=dict(checkpoint=adapted),
        classifier=dict(num_classes=_base_.num_classes, checkpoint=adapted),
    ),
    objectives=dict(task=dict(num_classes=_base_.num_classes)),
)
val_dataloader = dict(dataset=_base_.test)
test_dataloader = val_dataloader
work_dir = f"work_dirs/{_base_.target}/task_oriented"
