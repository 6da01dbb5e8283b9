# Table 1, "hard logits" with CE: DeiT's default.
_base_ = "./vit-s_dinov2-b_hard-logits.py"

# alpha=0.5 as in DeiT; the paper weights both "uniformly" (eq. 3). No label smoothing, as in eq. 1.
model = dict(objectives=dict(logits=dict(alpha=0.5, label_loss=dict(type="CrossEntropyLoss"))))
