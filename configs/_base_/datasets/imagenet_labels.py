# ImageNet-1K with its labels, for objectives on logits or labels; images are not masked.
_base_ = "./imagenet.py"

train_pipeline = [*_base_.augmentation, dict(type="PackInputs")]
train_dataloader = dict(dataset=dict(type="LabelledFolder", num_classes=1000, pipeline=train_pipeline))
# In the training set's layout: one folder per class.
val_dataloader = dict(dataset=dict(type="LabelledFolder", num_classes=1000))
val_evaluator = dict(_delete_=True, type="StudentTeacherAccuracy")
test_dataloader = val_dataloader
test_evaluator = val_evaluator
