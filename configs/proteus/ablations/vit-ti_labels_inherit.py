# Table 12, second row: as vit-ti_labels.py, initialised with every other channel of DINOv2-S.
_base_ = "./vit-ti_labels.py"

model = dict(init_from=dict(type="WeightSelection", checkpoint="checkpoints/dinov2_vits14_pretrain.pth"))
