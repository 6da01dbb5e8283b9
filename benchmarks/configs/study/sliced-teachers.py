"""plus-sliced with the EfficientNet of teachers-both as a second teacher. Its class token and its patches, which are
compared on its grid of 5x5, count half.
"""

_base_ = "./teachers-both.py"

model = dict(
    teachers=dict(
        vit=dict(
            objectives=dict(
                hidden=dict(type="HiddenStatesObjective"), token=dict(weight=0.005), feature=dict(weight=0.005)
            ),
            standardization=None,
        ),
        cnn=dict(weight=0.5, objectives=dict(feature=dict(type="FeatureObjective"))),
    ),
)
custom_hooks = [dict(type="SlicedInitHook", views=2048, teacher="vit")]
optim_wrapper = dict(optimizer=dict(lr=2e-4))
