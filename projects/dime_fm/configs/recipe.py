# Base of the recipes: CLIP ViT-L/14 as teacher, images and sentences of the paper's numbers, the released schedule.
_base_ = "../../../configs/_base_/distill_runtime_no_eval.py"

custom_imports = dict(
    imports=[
        "projects.dime_fm.losses",
        "projects.dime_fm.distiller",
        "projects.dime_fm.unpaired",
        "projects.dime_fm.agreement",
        "projects.dime_fm.table",
    ]
)

model = dict(
    type="UnpairedDistiller",
    # CLIP's statistics, for teacher and student.
    data_preprocessor=dict(
        type="DistillDataPreprocessor",
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
    ),
    teacher=dict(
        type="FrozenDualEncoder",
        encoder=dict(
            type="DualEncoder",
            embed_dim=768,
            # OpenAI's archive as downloaded: both towers, the projections and the scale.
            checkpoint="checkpoints/ViT-L-14.pt",
            image=dict(type="ViT", arch="clip-large", patch_size=14),
            text=dict(type="OpenClipText", width=768, layers=12, heads=12),
        ),
    ),
    # Released: the width of the teacher's space, with random weights.
    student=dict(type="DualEncoder", embed_dim=768, image=dict(type="ViT", arch="clip-base", patch_size=32)),
    # Released: weights 0.7, 0.3 and 0, temperatures 1, 3 and 7.
    losses=dict(
        score=dict(type="ScoreDistillationLoss", weight=0.7, temperature=1.0),
        pseudo_images=dict(type="PseudoPairLoss", modality="images", weight=0.3, temperature=3.0),
    ),
    zero_shot=dict(type="PromptEnsemble", names="imagenet", templates="openai"),
)

train_pipeline = [
    # Released: the same crop and flips, but bilinear, on an image first reduced to a short side of 256 (bicubic).
    dict(type="LoadRandomResizedCrop", scale=224, crop_ratio_range=(0.08, 1.0), interpolation="bicubic"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ToTensor", dtype="uint8"),
    dict(type="PackInputs"),
]
val_pipeline = [
    dict(type="LoadImage"),
    dict(type="ResizeEdge", scale=224, interpolation="bicubic"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="ToTensor"),
    dict(type="PackInputs"),
]

train_dataloader = dict(
    # Released: 640 per process, without the number of processes; eight are assumed here.
    batch_size=640,
    num_workers=10,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="ProxySampler"),
    collate_fn=dict(type="proteus.unpaired_collate"),
    dataset=dict(
        type="UnpairedSet",
        # Paper: 40 M images (released: IN-21K, GCC-15M and YFCC-14M) and 28.4 M sentences.
        dataset=dict(
            type="ConcatProxySet",
            pipeline=train_pipeline,
            datasets=dict(
                imagenet21k=dict(type="ImageFolder", data_root="data/imagenet21k"),
                gcc=dict(type="ImageFolder", data_root="data/gcc15m"),
                yfcc=dict(type="ImageFolder", data_root="data/yfcc14m"),
            ),
        ),
        sentences=dict(type="SentenceSet", list_file="data/sentences.txt", split="train", held_out=1000),
    ),
)
val_dataloader = dict(
    batch_size=100,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="proteus.unpaired_collate"),
    # Every 25th image, two of each class.
    dataset=dict(
        type="UnpairedSet",
        dataset=dict(
            type="LabelledFolder",
            data_root="data/imagenet/val",
            num_classes=1000,
            pipeline=val_pipeline,
            indices=list(range(0, 50000, 25)),
        ),
        sentences=dict(type="SentenceSet", list_file="data/sentences.txt", split="held-out", held_out=1000),
    ),
)
val_evaluator = [dict(type="StudentTeacherAccuracy"), dict(type="ScoreAgreement")]
# tools/test.py: zero-shot on all 50,000.
test_dataloader = dict(
    batch_size=100,
    num_workers=4,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="proteus.unpaired_collate"),
    dataset=dict(type="LabelledFolder", data_root="data/imagenet/val", num_classes=1000, pipeline=val_pipeline),
)
test_evaluator = dict(type="StudentTeacherAccuracy")

# Released: 100 epochs, learning rate 8e-4 with 4 epochs of warm-up from 4e-6, cosine to 4e-5, AdamW with weight decay
# 0.05 except for vectors.
optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="auto",
    optimizer=dict(type="AdamW", lr=8e-4, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    constructor="MergedGroupsConstructor",
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
# One epoch is 40 M / 5120 = 7,812 iterations.
param_scheduler = [
    dict(type="LinearLR", start_factor=0.005, by_epoch=False, begin=0, end=31248),
    dict(type="CosineAnnealingLR", eta_min=4e-5, by_epoch=False, begin=31248, end=781200),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=781200, val_interval=7812)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
auto_scale_lr = dict(base_batch_size=5120, enable=False)

# Without OnlineEvalHook, which compares class and patch tokens: this recipe does not train them.
default_hooks = dict(checkpoint=dict(interval=7812), export=dict(teacher="CLIP ViT-L/14 (OpenAI, MIT)"))
