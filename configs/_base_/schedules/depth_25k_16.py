# 25,000 iterations of 16 images, as released (docs/reproduction.md#nyu-depth-v2).
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    # Released: float32, as far as the code shows. For bfloat16: tools/train.py --amp.
    dtype="float32",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.01),
    constructor="MergedGroupsConstructor",
    # As released, with two side effects. MMEngine applies the first key that matches, trying long keys first. So the
    # position embedding and the cls token have no weight decay but the FULL learning rate, since their keys are tried
    # before 'backbone'. The backbone's norms are decayed, since the fourth released key, norm=dict(decay_mult=0.0),
    # matches no parameter; it is left out here. To train the whole backbone at a tenth of the rate:
    # pos_embed=dict(lr_mult=0.1, decay_mult=0.0), and cls_token likewise.
    paramwise_cfg=dict(
        custom_keys=dict(
            pos_embed=dict(decay_mult=0.0),
            cls_token=dict(decay_mult=0.0),
            backbone=dict(lr_mult=0.1),
        )
    ),
)
warmup = dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500)
decay = dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=25000)
param_scheduler = [warmup, decay]
auto_scale_lr = dict(base_batch_size=16, enable=False)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=25000, val_interval=1000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
