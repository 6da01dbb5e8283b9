# DINOv3's linear protocol: the frozen backbone's last block after the final norm, batch norm and one 1x1 convolution to
# 256 bins of depth; 38,400 iterations of 16 images. 8 processes of 2 images. Comments name the keys of DINOv3's
# eval/depth/configs/config-nyu.yaml, or another file of eval/depth (docs/reproduction.md#nyu-depth-v2).
_base_ = [
    "../_base_/models/depth_dpt.py",
    "../_base_/datasets/nyu_toolbox.py",
    "../_base_/schedules/depth_linear_38k.py",
    "../_base_/depth_runtime.py",
]

model = dict(
    # config.py: TransformConfig.mean and std, ImageNet's.
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    backbone=dict(
        arch="small",
        drop_path_rate=0.0,
        out_indices=(11,),  # decoder_head.backbone_out_layers=LAST
        final_norm=True,  # decoder_head.use_backbone_norm
        checkpoint="work_dirs/vit-s_dinov2-b/student.safetensors",
    ),
    decode_head=dict(
        _delete_=True,
        type="LinearDepthHead",
        embed_dims=384,
        bins=256,  # decoder_head.n_output_channels
        norm="SyncBN",  # decoder_head.use_batchnorm
        min_depth=1e-3,  # decoder_head.min_depth
        max_depth=10.0,  # decoder_head.max_depth
        # losses.SIGLOSS; loss.py: warm_up, warm_iter.
        loss_decode=dict(type="SigLoss", warm_up=True, warm_iter=100, loss_weight=1.0),
    ),
    freeze_backbone=True,
    test_cfg=dict(_delete_=True, mode="whole_flip"),  # eval.use_tta
)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadDepth"),
    dict(type="NYUCrop"),  # transforms.train.fixed_crop='NYU'
    dict(type="DepthRandomRotate", prob=0.5, degree=2.5),  # transforms.py
    dict(type="DepthRandomFlip", prob=0.5),  # transforms.py
    # transforms.train.random_crop=[416, 544], for patches of 16 px; this is the next multiple of 14 px.
    dict(type="DepthRandomCrop", size=(420, 546)),
    dict(type="ToTensor"),
    dict(
        type="ColorAug",
        prob=0.5,  # transforms.py
        gamma_range=(0.9, 1.1),  # transforms.py
        brightness_range=(0.75, 1.25),  # transforms.train.brightness_range
        color_range=(0.9, 1.1),  # transforms.py
        raw_gamma=True,  # transforms.py: pixels in [0, 255]
    ),
    dict(type="PackDepth"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
# transforms.eval.eval_mask='NYU_EIGEN', eval.min_depth and max_depth: the evaluator of nyu_toolbox.py.
default_hooks = dict(checkpoint=dict(interval=1600))
