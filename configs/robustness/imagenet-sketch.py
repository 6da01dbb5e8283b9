# ImageNet-Sketch: 50,889 images of all classes.
_base_ = "./imagenet-val.py"

test_dataloader = dict(dataset=dict(variant="sketch", data_root="data/imagenet-sketch"))
