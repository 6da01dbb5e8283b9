"""Muon for matrices in place of AdamW."""

_base_ = "./common.py"

optim_wrapper = dict(optimizer=dict(_delete_=True, type="Muon", lr=5e-4, weight_decay=0.05))
