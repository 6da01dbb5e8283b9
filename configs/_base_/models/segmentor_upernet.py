# UperNet on four blocks without the final norm, rescaled from patches of 14 px to strides of 3.5 to 28 px, and an
# auxiliary FCN head. In a single process and on CPUs, MMEngine replaces SyncBN by BN.
_base_ = "./segmentor.py"

norm_cfg = dict(type="SyncBN", requires_grad=True)
model = dict(
    backbone=dict(final_norm=False, drop_path_rate=0.1),
    neck=dict(type="Feature2Pyramid", embed_dim=384, rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg),
    decode_head=dict(
        type="UPerHead",
        in_channels=[384, 384, 384, 384],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=384,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=384,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
)
