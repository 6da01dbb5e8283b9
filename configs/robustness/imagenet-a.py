# ImageNet-A: 7,500 images of 200 classes; the answer is sought among these.
_base_ = ["./imagenet-val.py", "../../proteus/datasets/robustness/imagenet_subsets.json"]

test_dataloader = dict(dataset=dict(variant="a", data_root="data/imagenet-a"))
test_evaluator = [dict(type="Top1Accuracy", classes=_base_.imagenet_a_classes)]
