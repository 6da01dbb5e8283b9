# Table 1, "hard logits" without labels.
_base_ = "./vit-s_dinov2-b_soft-logits.py"

model = dict(objectives=dict(logits=dict(loss=dict(_delete_=True, type="HardLogitsLoss"))))
