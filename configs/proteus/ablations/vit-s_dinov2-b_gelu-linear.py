# Table 20, "GELU+Linear", with the token objective alone as in vit-s_dinov2-b_linear-gelu.py.
_base_ = "./vit-s_dinov2-b_token.py"

model = dict(objectives=dict(token=dict(head=dict(layers=("gelu", "linear")))))
