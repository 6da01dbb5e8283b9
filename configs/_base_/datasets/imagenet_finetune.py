# ImageNet-1K with its labels. RandomResizedCrop, flip, rand-m9-mstd0.5-inc1 and erasing 0.25: BEiT, MAE, iBOT, DeiT.
_base_ = "./imagenet_labels.py"

# Each image once an epoch, as BEiT, MAE and iBOT do it; three views of a third of the images are DeiT's.
train_dataloader = dict(sampler=dict(repeats=1))
# All 50,000 images, resized to 256 and cropped to 224.
val_dataloader = dict(dataset=dict(indices=None))
val_evaluator = dict(_delete_=True, type="mmpretrain.Accuracy", topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
