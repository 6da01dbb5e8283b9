# Four fixed views per image, with the teacher's tokens cached on disk: 'proteus cache CONFIG', then 'proteus train
# CONFIG'. The cache takes 2.0 TB in float16, 184 GB with --patches int8-pca. Neither the paper nor its code does this.
_base_ = "../vit-s_dinov2-b.py"

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="FixedViews",
        views=4,
        cache="work_dirs/cache/dinov2-b_imagenet",
        dataset=_base_.train_dataloader.dataset,
    )
)
