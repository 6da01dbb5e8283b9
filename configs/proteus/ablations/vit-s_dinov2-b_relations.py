# No experiment of the paper, and not run yet: the three objectives, and two on similarities, between the patches of an
# image and between its cls token and those of earlier images (docs/objectives.md).
_base_ = "../vit-s_dinov2-b.py"

model = dict(
    objectives=dict(
        patch_relation=dict(type="PatchRelationObjective", loss=dict(type="RelationKLLoss")),
        token_relation=dict(type="TokenRelationObjective", queue_size=8192),
    )
)
