"""Four fixed views of each picture instead of new ones at each step, with the teacher's tokens cached on disk."""

_base_ = "./common.py"

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="FixedViews",
        views=4,
        cache="work_dirs/cache/study",
        dataset=_base_.train_dataloader.dataset,
    )
)
