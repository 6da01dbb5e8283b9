# ViT-B/14 from two teachers, as a slice of DINOv2-L that learns its hidden states as well. Not the paper's recipe.
#
# Not run yet. docs/study.md measures the recipe with another second teacher, an EfficientNet, in minutes on a CPU.
_base_ = "./vit-b_dinov2-l+siglip2-l.py"

model = dict(
    student=dict(mask_token=False),
    teachers=dict(
        dinov2=dict(
            objectives=dict(
                hidden=dict(type="HiddenStatesObjective", weight=1.0),
                token=dict(weight=0.005),
                feature=dict(weight=0.005),
                patch=None,
            ),
            standardization=None,
        ),
        siglip2=dict(weight=0.5, objectives=dict(patch=None)),
    ),
)

# As measured: without erasing. No objective is left that reads masks.
train_pipeline = [step for step in _base_.train_pipeline if step["type"] not in ("RandomErasing", "UniformMask")]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
custom_hooks = [dict(type="SlicedInitHook", views=2048, teacher="dinov2")]
optim_wrapper = dict(optimizer=dict(type="Muon", lr=2e-4))
