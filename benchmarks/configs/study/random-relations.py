"""The three objectives, and similarities between patches and to earlier images (docs/objectives.md). The queue holds
half of 1,000 pictures.
"""

_base_ = "./common.py"

model = dict(
    objectives=dict(
        patch_relation=dict(type="PatchRelationObjective", loss=dict(type="RelationKLLoss")),
        token_relation=dict(type="TokenRelationObjective", queue_size=512),
    )
)
