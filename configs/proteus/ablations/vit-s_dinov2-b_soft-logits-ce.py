# Table 1, "soft logits" with KL and CE. Like DeiT it divides the KL by the number of classes, so at temperatures near 1
# it contributes little next to a cross-entropy of about 7 at the start.
_base_ = "./vit-s_dinov2-b_soft-logits.py"

# alpha=0.5 as in DeiT; the paper weights both "uniformly" (eq. 3). No label smoothing, as in eq. 1.
model = dict(objectives=dict(logits=dict(alpha=0.5, label_loss=dict(type="CrossEntropyLoss"))))
