# Table 13, first row: the student is initialised with every other channel of its teacher.
_base_ = "../vit-s_dinov2-b.py"

model = dict(init_from=dict(type="WeightSelection", checkpoint="checkpoints/dinov2_vitb14_pretrain.pth"))
