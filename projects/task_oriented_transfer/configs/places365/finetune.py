# Training from scratch; base of the other finetune_*.py.
_base_ = ["../_base_/finetune_10k.py", "./task.py"]

model = dict(objectives=dict(task=dict(num_classes=_base_.num_classes)))
train_dataloader = dict(dataset=_base_.labelled)
val_dataloader = dict(dataset=_base_.test)
test_dataloader = val_dataloader
work_dir = f"work_dirs/{_base_.target}/finetune"
