# ViT-S/14 and torchvision's FCOS on COCO, fine-tuned. The schedule is a starting point: it has not been run on COCO.
_base_ = "../../../configs/_base_/default_runtime.py"
custom_imports = dict(
    imports=[
        "projects.detection.detector",
        "projects.detection.coco",
        "projects.detection.metric",
        "projects.detection.categories",
    ]
)

model = dict(
    type="FCOSDetector",
    backbone=dict(
        type="DenseViT",
        arch="small",
        patch_size=14,
        img_size=518,
        init_values=1.0,
        drop_path_rate=0.1,
        out_indices=(3, 5, 7, 11),
        checkpoint="work_dirs/vit-s_dinov2-b/student.safetensors",
    ),
    num_classes=80,
    # The pyramid has strides of 7, 14, 28 and 56 px; images are padded to multiples of 56 px.
    min_size=784,
    max_size=1344,
)

# For your own set: these two paths, and num_classes.
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="ProxySampler"),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="CocoBoxes",
        ann_file="data/coco/annotations/instances_train2017.json",
        data_root="data/coco/train2017",
        flip=0.5,
        skip_empty=True,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(
        type="CocoBoxes", ann_file="data/coco/annotations/instances_val2017.json", data_root="data/coco/val2017"
    ),
)
# For COCO's AP, pass this file to pycocotools (README.md).
val_evaluator = dict(type="BoxRecall", results_file="work_dirs/vit-s_fcos/predictions.json")
test_dataloader = val_dataloader
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="AutocastOptimWrapper",
    dtype="float32",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
    constructor="MergedGroupsConstructor",
    # The backbone learns at a tenth of the rate of the pyramid and the head. MMEngine applies the longest key that a
    # name contains, and then neither norm_decay_mult nor bias_decay_mult. So what has no weight decay in the ViT is
    # named here; all these keys are longer than 'vit.'.
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            "backbone.backbone.model": dict(lr_mult=0.1),  # DenseTimm: all of it has weight decay
            "vit.": dict(lr_mult=0.1),
            "vit.pos_embed": dict(lr_mult=0.1, decay_mult=0.0),
            "vit.cls_token": dict(lr_mult=0.1, decay_mult=0.0),
            "patch_embed.proj.bias": dict(lr_mult=0.1, decay_mult=0.0),
            "norm1.": dict(lr_mult=0.1, decay_mult=0.0),
            "norm2.": dict(lr_mult=0.1, decay_mult=0.0),
            "attn.qkv.bias": dict(lr_mult=0.1, decay_mult=0.0),
            "attn.proj.bias": dict(lr_mult=0.1, decay_mult=0.0),
            "mlp.fc1.bias": dict(lr_mult=0.1, decay_mult=0.0),
            "mlp.fc2.bias": dict(lr_mult=0.1, decay_mult=0.0),
            "ls1.gamma": dict(lr_mult=0.1, decay_mult=0.0),
            "ls2.gamma": dict(lr_mult=0.1, decay_mult=0.0),
        },
    ),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end=1000),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1000, end=90000),
]
# The categories of both files and num_classes are compared before the first iteration.
default_hooks = dict(category_check=dict(type="CategoryCheckHook"))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=90000, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
