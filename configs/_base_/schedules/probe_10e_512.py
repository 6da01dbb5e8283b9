# 10 epochs of 2502 iterations in batches of 512 (docs/reproduction.md#linear-probe).
optim_wrapper = dict(
    type="OptimWrapper",
    # No lr: each head has one of model.learning_rates.
    optimizer=dict(type="SGD", momentum=0.9, weight_decay=0.0),
    constructor="ProbeConstructor",
)
# The learning rates are for a batch of 256: those of 512 images are twice as high.
auto_scale_lr = dict(base_batch_size=256, enable=True)
# To 0 at the last iteration, whatever max_iters is.
param_scheduler = dict(type="CosineAnnealingLR", by_epoch=False, eta_min=0.0)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=25020, val_interval=1250)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
