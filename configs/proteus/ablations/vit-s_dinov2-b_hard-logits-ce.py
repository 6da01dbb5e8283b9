# Table 1, "hard logits" with CE: DeiT's default.
_base_ = "./vit-s_dinov2-b_hard-logits.py"

# DeiT's alpha; the paper says "uniformly" (eq. 3). One-hot labels as in eq. 1: no label smoothing.
model = dict(objectives=dict(logits=dict(alpha=0.5, label_loss=dict(type="CrossEntropyLoss"))))
