# Top-1 of a linear probe on ImageNet-1K's validation set, for comparison with the sets beside it.
# Another student's probe: --cfg-options model.backbone.arch=base
_base_ = "../linear_probe/vit-s.py"

# All weights are in the probe's checkpoint.
model = dict(backbone=dict(checkpoint=None))

test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="ImageNetVariant",
        variant="val",
        data_root="data/imagenet/val",
        pipeline=_base_.val_pipeline,
    ),
)
# Of the head that the checkpoint has chosen: choosing one on these images would flatter it.
test_evaluator = [dict(type="Top1Accuracy")]

# Nothing is trained here.
train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_cfg = val_evaluator = None
