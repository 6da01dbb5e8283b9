# vit-s_upernet.py with the backbone that the released code fine-tunes: mmseg's MAE, which adds a learned relative
# position bias to each block (docs/reproduction.md#ade20k). It has (2 * 37 - 1)^2 + 3 = 5,332 values per head, 12 x
# 5,332 x 6 = 383,904 parameters, which start at 0, are subject to weight decay, and tie the model to windows of 518 px.
_base_ = "./vit-s_upernet.py"

model = dict(backbone=dict(type="proteus.RelPosDenseViT"))
