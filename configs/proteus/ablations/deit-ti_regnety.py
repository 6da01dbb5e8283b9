# Table 3's baseline: DeiT, trained on labels and distilled from RegNetY-16GF by hard logits. Unlike DeiT it has no
# distillation token: both terms use the cls token, which is DeiT's "usual" distillation.
_base_ = [
    "../../_base_/models/distill_logits.py",
    "../../_base_/datasets/imagenet_labels.py",
    "../../_base_/schedules/deit_300e_1024.py",
    "../../_base_/distill_runtime.py",
]

model = dict(
    data_preprocessor=dict(type="MixupDataPreprocessor", mixup=0.8, cutmix=1.0),
    teacher=dict(
        # The file has both the backbone and its classification layer.
        backbone=dict(
            _delete_=True,
            type="TimmBackbone",
            arch="regnety_160",
            checkpoint="checkpoints/regnety_160-a5fe301d.pth",
        ),
        classifier=dict(layers=1, avgpool=False, checkpoint="checkpoints/regnety_160-a5fe301d.pth"),
    ),
    student=dict(arch="tiny", patch_size=16, init_values=None, drop_path_rate=0.1),
    objectives=dict(
        logits=dict(
            alpha=0.5,
            loss=dict(_delete_=True, type="HardLogitsLoss"),
            label_loss=dict(type="CrossEntropyLoss", label_smoothing=0.1),
        )
    ),
)
# DeiT exempts these from weight decay; the released Proteus does not.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(pos_embed=dict(decay_mult=0.0), cls_token=dict(decay_mult=0.0)))
)
default_hooks = dict(export=dict(teacher="RegNetY-16GF, supervised on ImageNet-1K (DeiT's, Meta, Apache-2.0)"))
