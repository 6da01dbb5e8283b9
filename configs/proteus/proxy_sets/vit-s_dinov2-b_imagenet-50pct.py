# Half of each class's images, 640,584. As in the main recipe, 375,300 iterations of 1024 images: 600 epochs of 625.5
# iterations.
# Paper: a random half, unpublished. Here: drawn by seed; the list is written to the work directory
# (docs/reproduction.md#proxy-sets).
_base_ = "../vit-s_dinov2-b.py"

train_dataloader = dict(dataset=dict(images_per_class=0.5, subset_seed=0))
