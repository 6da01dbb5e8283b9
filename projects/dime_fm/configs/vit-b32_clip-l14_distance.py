# The distance-preserving regulariser between images instead of pseudo pairs. Its released weight is 0; here it has the
# weight of the pseudo pairs, and the released temperature.
_base_ = "./recipe.py"

model = dict(
    losses=dict(
        pseudo_images=None,
        distances=dict(type="DistancePreservingLoss", modality="images", weight=0.3, temperature=7.0),
    ),
)
