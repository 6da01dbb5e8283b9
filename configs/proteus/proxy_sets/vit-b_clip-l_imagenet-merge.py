# ../vit-b_clip-l.py on ImageNet-Merge: 246 epochs of 1523 iterations.
_base_ = "./vit-s_dinov2-b_imagenet-merge.py"

model = dict(
    # CLIP's statistics in place of the released ImageNet's, as in ../vit-b_clip-l.py, which explains these settings.
    teacher=dict(
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        backbone=dict(arch="clip-large", checkpoint="checkpoints/ViT-L-14.pt"),
    ),
    student=dict(arch="clip-base", init_values=None, mask_token=False),
    objectives=dict(feature=None, patch=None),
)
# Only the patch objective reads masks.
train_pipeline = [*_base_.augmentation, dict(type="PackInputs")]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(export=dict(teacher="CLIP ViT-L/14 (OpenAI, MIT)"))
