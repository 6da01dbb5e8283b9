# 10 epochs of 2502 iterations in batches of 512 (docs/reproduction.md#linear-probe).
optim_wrapper = dict(
    type="OptimWrapper",
    # No lr: each head has its own, from model.learning_rates.
    optimizer=dict(type="SGD", momentum=0.9, weight_decay=0.0),
    constructor="ProbeConstructor",
)
# model.learning_rates are for batches of 256 images, so they are doubled for 512.
auto_scale_lr = dict(base_batch_size=256, enable=True)
# Reaches 0 at the last iteration, for any max_iters.
param_scheduler = dict(type="CosineAnnealingLR", by_epoch=False, eta_min=0.0)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=25020, val_interval=1250)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
