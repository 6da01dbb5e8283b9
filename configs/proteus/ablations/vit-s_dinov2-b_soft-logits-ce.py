# Table 1, "soft logits" with KL and CE. DeiT divides the KL by the number of classes too, so that beside a
# cross-entropy of about 7 at the start it hardly counts at any temperature near 1.
_base_ = "./vit-s_dinov2-b_soft-logits.py"

# DeiT's alpha; the paper says "uniformly" (eq. 3). One-hot labels as in eq. 1: no label smoothing.
model = dict(objectives=dict(logits=dict(alpha=0.5, label_loss=dict(type="CrossEntropyLoss"))))
