# Table 12, first row: a ViT-Ti/14 of DINOv2's architecture, trained like DeiT without a teacher.
_base_ = "./deit-ti_labels.py"

model = dict(student=dict(patch_size=14, init_values=1.0))
