# vit-s_upernet.py with the backbone that the released code really fine-tunes: mmseg's MAE, which adds to each block a
# learnt relative position bias, (2 * 37 - 1)^2 + 3 = 5,332 numbers for each head: 12 x 5,332 x 6 = 383,904 parameters
# that are not the student's, start at 0, are decayed, and tie the model to windows of 518 px.
_base_ = "./vit-s_upernet.py"

model = dict(backbone=dict(type="proteus.RelPosDenseViT"))
