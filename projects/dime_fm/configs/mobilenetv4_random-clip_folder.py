# mobilenetv4_random-clip_packaged.py on a folder of your own images, tested on the packaged photographs:
# python -m projects.dime_fm.train projects/dime_fm/configs/mobilenetv4_random-clip_folder.py \
#     --cfg-options train_dataloader.dataset.dataset.data_root=DIR
_base_ = "./mobilenetv4_random-clip_packaged.py"

# A folder may not fit in memory.
train_pipeline = [dict(_base_.load_image, cache_in_memory=False), *_base_.augmentation]
train_dataloader = dict(
    dataset=dict(
        views=2,
        cache="work_dirs/cache/dime_fm_folder/images",
        dataset=dict(_delete_=True, type="ImageFolder", data_root="data/pictures", pipeline=train_pipeline),
    ),
)
