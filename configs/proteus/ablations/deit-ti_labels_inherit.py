# Table 11, second row: DeiT without a teacher, initialised with every other channel of DeiT-S.
_base_ = "./deit-ti_labels.py"

model = dict(init_from=dict(type="WeightSelection", checkpoint="checkpoints/deit_small_patch16_224-cd65a155.pth"))
