# 300 epochs of ImageNet-1K in batches of 1024: 300 x 1251 iterations, the paper's 375K.
optim_wrapper = dict(
    # Released: float16 with a gradient scaler. Here bfloat16 on GPUs that have it, float32 elsewhere.
    type="AutocastOptimWrapper",
    dtype="auto",
    # lr = 5e-4 x batch / 512. The released script uses a batch of 512, hence 5e-4.
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor="MergedGroupsConstructor",
    # Paper: as DeiT, without weight decay for pos_embed and cls_token: custom_keys=dict(pos_embed=dict(decay_mult=0.0),
    # cls_token=dict(decay_mult=0.0)). Released: only vectors (norms, biases, LayerScale) are exempt.
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
# Released: the rate changes once per epoch, one epoch late; its minimum and its start do not scale with the batch
# (docs/reproduction.md#distillation-schedule).
param_scheduler = dict(
    type="DeiTCosineLR", epochs=300, iters_per_epoch=1251, warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5
)
auto_scale_lr = dict(base_batch_size=1024, enable=False)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=375300, val_interval=12510)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# Released: an EMA of the student with decay 0.99996 is maintained, but not used downstream. To maintain one:
# custom_hooks = [dict(type="EMAHook", ema_type="ForeachEMA", momentum=4e-5)]
