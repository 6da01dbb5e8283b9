# "The masking strategy in iBOT", which the paper names but the released code does not use
# (docs/reproduction.md#masking): half of the images are masked in blocks, each by a share drawn from 0.1 to 0.5.
# Released: ../vit-s_dinov2-b.py.
_base_ = "../vit-s_dinov2-b.py"

mask = dict(type="BlockMask", ratio=(0.1, 0.5), patch_size=14)
train_pipeline = [*_base_.augmentation, mask, dict(type="PackInputs")]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
