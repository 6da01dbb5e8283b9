"""plain-224 with images of 112 px for 60 % of the run."""

_base_ = "./plain-224.py"

train_dataloader = dict(
    batch_sampler=dict(type="ResolutionBatchSampler", stages=[dict(size=112, end=0.6), dict(size=224)])
)
