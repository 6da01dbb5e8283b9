"""As synthetic_masks_vit-s.py, for a ViT-Ti/14 such as the quickstart's student."""

_base_ = "./synthetic_masks_vit-s.py"

model = dict(backbone=dict(arch="tiny"), decode_head=dict(in_channels=[192] * 4, channels=4 * 192))
