# ImageNet-A: 7,500 images of 200 classes; the prediction is chosen from these.
_base_ = "./imagenet-val.py"

test_dataloader = dict(dataset=dict(variant="a", data_root="data/imagenet-a"))
test_evaluator = [dict(type="Top1Accuracy", classes="imagenet_a")]
