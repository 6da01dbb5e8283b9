# Table 20, "Linear+GELU". The table's third row equals table 2's token objective to the digit, so the projectors were
# apparently compared with that objective alone.
_base_ = "./vit-s_dinov2-b_token.py"

model = dict(objectives=dict(token=dict(head=dict(layers=("linear", "gelu")))))
