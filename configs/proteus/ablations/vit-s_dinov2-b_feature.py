# Table 2, second row: the feature objective alone, with its own head for the cls token.
_base_ = "../vit-s_dinov2-b.py"

model = dict(objectives=dict(token=None, feature=dict(cls_term=None), patch=None))
