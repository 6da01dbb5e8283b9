# "The masking strategy in iBOT", which the paper names and its released code does not use: half of the images
# masked, block by block, each by a share drawn from 0.1 to 0.5. The released one is ../vit-s_dinov2-b.py.
_base_ = "../vit-s_dinov2-b.py"

mask = dict(type="BlockMask", ratio=(0.1, 0.5), patch_size=14)
train_pipeline = [*_base_.augmentation, mask, dict(type="PackInputs")]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
