# DINOv3's linear protocol, for comparison with its results: the last block after the final norm, dropout, batch norm
# and a 1x1 convolution; 40,000 iterations of 16 images at 512 px. 8 processes of 2 images. Comments name the keys of
# DINOv3's eval/segmentation/configs/config-ade20k-linear-training.yaml, or another file of eval/segmentation
# (docs/reproduction.md#ade20k).
_base_ = "./vit-s_linear-dinov2.py"

model = dict(
    decode_head=dict(
        dropout_ratio=0.1,  # config.py: DecoderConfig.dropout
        dropout_first=True,  # models/heads/linear_head.py: dropout, batch norm, convolution
    ),
    # decoder_head.backbone_out_layers=LAST, use_backbone_norm and use_batchnorm, transforms (short side 512, ratio 0.5
    # to 2, crop 512, flip 0.5), and eval.crop_size=512 with stride=341 are those of vit-s_linear-dinov2.py.
)
optim_wrapper = dict(
    optimizer=dict(
        lr=1e-3,  # optimizer.lr
        betas=(0.9, 0.999),  # optimizer.beta1, beta2
        weight_decay=1e-3,  # optimizer.weight_decay; DINOv2's is 1e-4
    )
    # optimizer.gradient_clip='inf': gradients are not clipped.
)
# scheduler.type='WarmupOneCycleLR' with pct_start=0, anneal_strategy='cos' and final_div_factor=inf: a cosine over all
# iterations to 0, times the warm-up. During the warm-up, schedulers.py has 1 - t / 40000 in place of the cosine, which
# is at most 3.4 % less.
param_scheduler = [
    dict(
        type="LinearLR",
        start_factor=1e-6,  # warmup_ratio
        by_epoch=False,
        begin=0,
        end=1500,  # warmup_iters
    ),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=0, end=40000),  # total_iter
]
train_cfg = dict(val_interval=5000)  # eval.eval_interval
