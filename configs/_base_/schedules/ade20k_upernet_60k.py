# 60,000 iterations of 32 images with AdamW at 1e-4 and a layer-wise learning rate decay of 0.65.
_base_ = "./ade20k_linear_60k.py"

optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    constructor="proteus.LayerDecayConstructor",
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        # No weight decay for vectors (norms, biases, LayerScale). Released: position embedding and cls token are
        # decayed, since its keys do not match their names. Exempt: custom_keys=dict(pos_embed=dict(decay_mult=0.0)).
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        flat_decay_mult=0.0,
    ),
)
