# 500 of the 1000 classes, about 640,000 images. As in the main recipe, 375,300 iterations of 1024 images: about 600
# epochs.
# Paper: random classes, unpublished. Here: drawn by seed; the list is written to the work directory
# (docs/reproduction.md#proxy-sets).
_base_ = "../vit-s_dinov2-b.py"

train_dataloader = dict(dataset=dict(classes=500, subset_seed=0))
