# 1.2 M crops of one picture (docs/reproduction.md#proxy-sets). As in the main recipe, 375,300 iterations of 1024
# images: 320 epochs of 1171.75 iterations. Paper: crops written to disk by Asano's generator, some 100 GB, from a
# picture shown only in figure 8. Here: crops made by the same steps when they are needed, from any large, busy picture;
# crop 7 is always the same.
_base_ = "../vit-s_dinov2-b.py"

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="SingleImage",
        picture="data/single/picture.jpg",
        length=1_200_000,
        size=256,
        crop_seed=0,
        pipeline=_base_.train_pipeline,
    )
)
