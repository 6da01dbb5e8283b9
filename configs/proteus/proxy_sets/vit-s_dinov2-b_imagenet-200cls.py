_base_ = "../vit-s_dinov2-b.py"

# 200 of the 1000 classes, about 256,000 images. Iterations stay at 375,300 of 1024, which makes about 1500 epochs.
# Paper: random classes, not known which. Here: a choice by seed, whose list is written to the work directory.
train_dataloader = dict(dataset=dict(classes=200, subset_seed=0))
