# ImageNet-1K with its labels, for the objectives that read logits or labels; nothing is masked.
_base_ = "./imagenet.py"

train_pipeline = [step for step in _base_.train_pipeline if step.type != "UniformMask"]
train_dataloader = dict(dataset=dict(type="LabelledFolder", num_classes=1000, pipeline=train_pipeline))
# In the training set's layout: a folder for each class.
val_dataloader = dict(dataset=dict(type="LabelledFolder", num_classes=1000))
val_evaluator = dict(_delete_=True, type="StudentTeacherAccuracy")
test_dataloader = val_dataloader
test_evaluator = val_evaluator
