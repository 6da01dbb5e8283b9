_base_ = [
    "../_base_/models/distill_vit.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/deit_300e_1024.py",
    "../_base_/distill_runtime.py",
]

model = dict(
    # Released: CLIP is fed with ImageNet's statistics, as all teachers; that is, without mean and std here.
    teacher=dict(
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        # OpenAI's weights are those of QuickGELU. Targets are ln_post(cls), before CLIP's projection.
        backbone=dict(arch="clip-large", checkpoint="checkpoints/ViT-L-14.pt"),
    ),
    # A ViT-B/14 of CLIP's form: a LayerNorm before the blocks, QuickGELU, no LayerScale.
    student=dict(arch="clip-base", init_values=None, mask_token=False),
    # CLIP has no objective on patches, and so none here (paper, section 3.4).
    objectives=dict(feature=None, patch=None),
)
train_pipeline = [step for step in _base_.train_pipeline if step.type != "UniformMask"]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(export=dict(teacher="CLIP ViT-L/14 (OpenAI, MIT)"))
