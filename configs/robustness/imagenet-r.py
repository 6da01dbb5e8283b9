# ImageNet-R: 30,000 images of 200 classes; the prediction is chosen from these.
_base_ = "./imagenet-val.py"

test_dataloader = dict(dataset=dict(variant="r", data_root="data/imagenet-r"))
test_evaluator = [dict(type="Top1Accuracy", classes="imagenet_r")]
