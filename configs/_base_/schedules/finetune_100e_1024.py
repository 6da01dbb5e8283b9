# 100 epochs of ImageNet-1K in batches of 1024: 100 x 1251 iterations.
epoch = 1251

optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="auto",
    # 1e-3 at 1024 images: BEiT-L's, and one of the four that iBOT tries for each model (8e-4, 9e-4, 1e-3, 2e-3).
    # Weight decay 0.05: BEiT, MAE, iBOT.
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="LayerDecayConstructor",
    paramwise_cfg=dict(
        # 0.65: iBOT-B, BEiT-B, MAE-B.
        layer_decay_rate=0.65,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
        # DeiT, BEiT, MAE and iBOT exempt these from weight decay; the released Proteus decays them in pre-training.
        custom_keys=dict(pos_embed=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0)),
    ),
)
# From 1e-6 up to the peak and back to 1e-6 (BEiT, iBOT; MAE starts at 0), as fractions of the peak so that each layer
# keeps its own scale. 20 epochs of warm-up: iBOT-S and -B, BEiT-B; 5: MAE.
warmup = dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=20 * epoch)
cosine = dict(type="CosineAnnealingLR", eta_min_ratio=1e-3, by_epoch=False, begin=20 * epoch, end=100 * epoch)
param_scheduler = [warmup, cosine]
auto_scale_lr = dict(base_batch_size=1024, enable=False)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=100 * epoch, val_interval=5 * epoch)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# Validation, tests and the exported weights use the moving average. Decay 0.9999 per step: BEiT's option, which its own
# runs do not enable, nor does MAE; DeiT uses 0.99996.
custom_hooks = [dict(type="EMAHook", momentum=1e-4)]
