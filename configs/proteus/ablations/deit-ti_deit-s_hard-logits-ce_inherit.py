# Table 11, fourth row: distilled from DeiT-S, and initialised with every other channel of it.
_base_ = "./deit-ti_deit-s_hard-logits-ce.py"

model = dict(init_from=dict(type="WeightSelection", checkpoint="checkpoints/deit_small_patch16_224-cd65a155.pth"))
