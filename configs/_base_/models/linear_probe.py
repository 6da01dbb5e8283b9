# DINOv2's linear probe of a ViT-S/14: 2 x 2 x 13 = 52 heads on a frozen backbone (docs/reproduction.md#linear-probe).
model = dict(
    type="LinearProbe",
    data_preprocessor=dict(type="ProbeDataPreprocessor"),  # ImageNet mean and std
    backbone=dict(type="ViT", arch="small", patch_size=14, img_size=224),
    num_classes=1000,
    layers=(1, 4),
    avgpool=(False, True),
    learning_rates=(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1),
    # Released: float16 for the backbone. Here bfloat16 on GPUs that have it, float32 elsewhere; heads are float32.
    dtype="auto",
)
