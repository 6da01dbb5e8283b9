"""As synthetic_depth_vit-s.py, for a ViT-Ti/14 such as the quickstart's student."""

_base_ = "./synthetic_depth_vit-s.py"

model = dict(backbone=dict(arch="tiny"), decode_head=dict(embed_dims=192, post_process_channels=(24, 48, 96, 192)))
