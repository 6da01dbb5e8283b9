# Top-1 of a linear probe on ImageNet-1K's validation set, for comparison with the other sets in this folder.
# For the probe of another student: --cfg-options model.backbone.arch=base
_base_ = [
    "../_base_/models/linear_probe.py",
    "../_base_/datasets/frozen_features.py",
    "../_base_/default_runtime.py",
]

# Only a test: the probe's checkpoint has all weights.
test_dataloader = dict(
    batch_size=128,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="proteus.distill_collate"),
    dataset=dict(
        type="ImageNetVariant",
        variant="val",
        data_root="data/imagenet/val",
        pipeline=_base_.pipeline,
    ),
)
# Of the head that the checkpoint names as best: selecting a head on these images would bias the result.
test_evaluator = [dict(type="Top1Accuracy")]
test_cfg = dict(type="TestLoop")
# Stop if more than 1 % of the images cannot be read.
default_hooks = dict(corrupt_images=dict(type="CorruptImageHook", max_share=0.01))
