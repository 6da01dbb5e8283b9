# Table 12, fourth row: as vit-ti_dinov2-s_hard-logits-ce.py, initialised with every other channel of the teacher.
_base_ = "./vit-ti_dinov2-s_hard-logits-ce.py"

model = dict(init_from=dict(type="WeightSelection", checkpoint="checkpoints/dinov2_vits14_pretrain.pth"))
