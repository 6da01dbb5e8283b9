# With the distance-preserving regulariser between images in place of the pseudo pairs. Its weight is 0 in the released
# code, so that this one is a reading: the pseudo pairs' weight, and the released temperature.
_base_ = "./recipe.py"

model = dict(
    losses=dict(
        pseudo_images=None,
        distances=dict(type="DistancePreservingLoss", modality="images", weight=0.3, temperature=7.0),
    ),
)
