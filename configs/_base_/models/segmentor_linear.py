# *Linear*: the raw outputs of four frozen blocks side by side, and one 1x1 convolution without norm and dropout.
# The paper calls it linear probing and gives no detail; this is what the released code ran for ViT-S.
_base_ = "./segmentor.py"

model = dict(
    backbone=dict(frozen=True, final_norm=False),
    decode_head=dict(
        type="FCNHead",
        in_channels=[384, 384, 384, 384],
        in_index=[0, 1, 2, 3],
        input_transform="resize_concat",
        channels=4 * 384,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
)
