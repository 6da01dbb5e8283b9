# The same on a folder of pictures of one's own, held-out photographs being the packaged ones:
# python -m projects.dime_fm.train projects/dime_fm/configs/mobilenetv4_random-clip_folder.py \
#     --cfg-options train_dataloader.dataset.dataset.data_root=DIR
_base_ = "./mobilenetv4_random-clip_packaged.py"

train_pipeline = _base_.train_pipeline
# A folder may be larger than memory.
train_pipeline[0].cache_in_memory = False

train_dataloader = dict(
    dataset=dict(
        views=2,
        cache="work_dirs/cache/dime_fm_folder/images",
        dataset=dict(_delete_=True, type="ImageFolder", data_root="data/pictures", pipeline=train_pipeline),
    ),
)
