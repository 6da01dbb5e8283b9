# ViT-S/14 from DINOv2-B with images that grow from 112 to 224 px over the first 80 % of the run (docs/resolution.md).
# As many images and iterations as vit-s_dinov2-b.py, in fewer FLOPs. Not the paper's recipe, and not run yet.
_base_ = "./vit-s_dinov2-b.py"

# The teacher's positions at each size are resampled from those of the release, 37x37, and not from those at 224 px.
model = dict(teacher=dict(backbone=dict(img_size=518)))
train_dataloader = dict(
    batch_sampler=dict(
        type="ResolutionBatchSampler",
        stages=[dict(grow_from=112, size=224, end=0.8), dict(size=224)],
        interval=1251,  # sizes change between epochs
    )
)
