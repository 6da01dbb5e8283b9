# Table 3's baseline for ViT-S/16: see deit-ti_regnety.py.
_base_ = "./deit-ti_regnety.py"

model = dict(student=dict(arch="small"))
