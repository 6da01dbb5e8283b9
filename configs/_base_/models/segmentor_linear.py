# *Linear*: the concatenated outputs of four frozen blocks and one 1x1 convolution, without norm or dropout. The paper
# calls it linear probing without details; this is what the released code runs for ViT-S (docs/reproduction.md#ade20k).
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
