"""Muon for matrices in place of AdamW."""

_base_ = "./common.py"

optim_wrapper = dict(optimizer=dict(type="Muon"))
