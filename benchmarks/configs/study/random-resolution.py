"""Images of 56 px for 60 % of the run, then of 112 px."""

_base_ = "./common.py"

stages = [dict(size=56, end=0.6), dict(size=112)]
train_dataloader = dict(batch_sampler=dict(type="ResolutionBatchSampler", stages=stages))
