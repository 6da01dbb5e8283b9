# A ViT at 518 px with a DPT head, as released (docs/reproduction.md#nyu-depth-v2).
model = dict(
    type="DepthEstimator",
    # Released: (x - 127.5) / 127.5, although the backbone was distilled with ImageNet's mean and std.
    data_preprocessor=dict(type="DepthDataPreprocessor", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    backbone=dict(
        type="DenseViT",
        patch_size=14,
        # The position embedding of 224 px is interpolated once, when the weights are loaded.
        img_size=518,
        init_values=1.0,
        drop_path_rate=0.1,
        out_indices=(3, 5, 7, 11),
        final_norm=False,
    ),
    decode_head=dict(
        type="DPTDepthHead",
        channels=256,
        readout_type="project",
        norm="SyncBN",
        output="linear",
        dropout_ratio=0.1,
        # Released: training starts from depths around 0. For short runs, start from a typical depth: 2.5.
        initial_depth=0.0,
        # Released: predictions are not clamped.
        max_depth=None,
        # Released: ground truth of any depth counts, without a gradient loss. To add one:
        # loss_decode=[dict(type="SiLogLoss"), dict(type="GradientLoss", loss_weight=0.5)]
        loss_decode=dict(type="SiLogLoss", variance_focus=0.5, eps=1e-6),
    ),
    freeze_backbone=False,
    # 480x640 becomes 518x691: three windows, each also mirrored.
    test_cfg=dict(mode="slide_flip", crop_size=518, stride=129),
)
