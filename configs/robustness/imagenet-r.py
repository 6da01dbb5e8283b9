# ImageNet-R: 30,000 images of 200 classes; the answer is sought among these.
_base_ = ["./imagenet-val.py", "../../proteus/datasets/robustness/imagenet_subsets.json"]

test_dataloader = dict(dataset=dict(variant="r", data_root="data/imagenet-r"))
test_evaluator = [dict(type="Top1Accuracy", classes=_base_.imagenet_r_classes)]
