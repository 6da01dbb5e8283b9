# ImageNet-1K with its labels, augmented as in BEiT, MAE, iBOT and DeiT: random resized crop, flip,
# rand-m9-mstd0.5-inc1 and erasing with probability 0.25.
_base_ = "./imagenet_labels.py"

# Each image once per epoch, as in BEiT, MAE and iBOT. DeiT trains on three views of a third of the images.
train_dataloader = dict(sampler=dict(repeats=1))
# All 50,000 images, resized to 256 and cropped to 224.
val_dataloader = dict(dataset=dict(indices=None))
val_evaluator = dict(_delete_=True, type="mmpretrain.Accuracy", topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
