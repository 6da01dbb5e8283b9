_base_ = "../vit-s_dinov2-b.py"

# 1.2 M crops of one picture. Iterations stay at 375,300 of 1024, which makes 320 epochs of 1171.75.
# Paper: crops written to disk by Asano's generator, some 100 GB, from a picture that only its figure 8 shows. Here:
# crops by the same steps, made when they are needed, from any large and busy picture; crop 7 is always the same.
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
