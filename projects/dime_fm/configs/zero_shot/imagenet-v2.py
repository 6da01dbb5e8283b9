# ImageNet-V2, matched frequency: 10,000 images of all classes.
_base_ = "../../../../configs/robustness/imagenet-val.py"

custom_imports = dict(imports=["projects.dime_fm.imagenet_v2"])

test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="ImageNetV2",
        data_root="data/imagenetv2-matched-frequency-format-val",
        pipeline=_base_.pipeline,
    ),
)
