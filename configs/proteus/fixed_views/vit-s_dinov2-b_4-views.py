_base_ = "../vit-s_dinov2-b.py"

# Four views of each image in place of a new one each time, of which the teacher's tokens are kept:
# tools/cache_teacher.py CONFIG, then tools/train.py CONFIG. In float16 they take 2.0 TB, with --patches int8-pca
# 184 GB. Neither the paper nor its code does this.
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="FixedViews",
        views=4,
        cache="work_dirs/cache/dinov2-b_imagenet",
        dataset=_base_.train_dataloader.dataset,
    )
)
