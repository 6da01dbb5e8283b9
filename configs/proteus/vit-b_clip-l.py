# ViT-B/14 from CLIP (docs/reproduction.md#synclr-and-clip).
_base_ = "./vit-s_dinov2-b.py"

model = dict(
    # Released: ImageNet's statistics for every teacher, CLIP too; that is this config without mean and std.
    teacher=dict(
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        # OpenAI's weights need QuickGELU. The targets are ln_post(cls), before CLIP's projection.
        backbone=dict(arch="clip-large", checkpoint="checkpoints/ViT-L-14.pt"),
    ),
    # A ViT-B/14 of CLIP's architecture: a LayerNorm before the blocks, QuickGELU, no LayerScale.
    student=dict(arch="clip-base", init_values=None, mask_token=False),
    # CLIP is not trained on patches, so only the token objective is used (paper, section 3.4).
    objectives=dict(feature=None, patch=None),
)
train_pipeline = [*_base_.augmentation, dict(type="PackInputs")]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(export=dict(teacher="CLIP ViT-L/14 (OpenAI, MIT)"))
