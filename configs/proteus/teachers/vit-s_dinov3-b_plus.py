# ViT-S/16 from DINOv3 ViT-B/16 that learns the hidden states of all blocks. Not the paper's recipe.
#
# Not run yet: DINOv3's weights have not been tried. docs/study.md measures the recipe from random weights (plus-random)
# with another teacher, a ViT-S/14, in minutes on a CPU. A ViT with learnt positions cannot be a slice of a DINOv3.
_base_ = "./vit-s_dinov3-b.py"

model = dict(
    student=dict(mask_token=False),
    objectives=dict(
        hidden=dict(type="HiddenStatesObjective", weight=1.0),
        # AdamW's steps do not depend on the scale of a loss, so that the heads learn at these weights as well.
        token=dict(weight=0.005),
        feature=dict(weight=0.005),
        patch=None,  # masked images cost a third of the student's work
    ),
)

# As measured: without erasing. No objective is left that reads masks.
train_pipeline = [step for step in _base_.train_pipeline if step["type"] not in ("RandomErasing", "UniformMask")]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(type="Muon", lr=2e-3))
