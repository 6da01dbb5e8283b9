# 25,000 iterations of 16 images, as the released code has them (docs/reproduction.md#nyu-depth-v2).
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    # No lower precision is known of the released code. tools/train.py --amp: bfloat16.
    dtype="float32",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01),
    constructor="MergedGroupsConstructor",
    # As released, with what follows from it: MMEngine takes the first key that matches, the longest first. So the
    # positions and the cls token have no decay but the FULL rate, since their keys come before 'backbone'; the
    # backbone's norms are decayed, since its fourth key, norm=dict(decay_mult=0.0), matches no name there: left out
    # here. To give the whole backbone a tenth: pos_embed=dict(lr_mult=0.1, decay_mult=0.0), cls_token likewise.
    paramwise_cfg=dict(
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0),
            cls_token=dict(decay_mult=0.0),
            backbone=dict(lr_mult=0.1),
        )
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=25000),
]
auto_scale_lr = dict(base_batch_size=16, enable=False)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=25000, val_interval=1000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
