# DINOv2's linear probe of the student that configs/proteus/vit-s_dinov2-b.py leaves. For another backbone:
# --cfg-options model.backbone.checkpoint=FILE, or model = dict(backbone=dict(_delete_=True, type="TimmBackbone", ...)).
_base_ = [
    "../_base_/datasets/imagenet_probe.py",
    "../_base_/schedules/probe_10e_512.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="LinearProbe",
    data_preprocessor=dict(type="ProbeDataPreprocessor"),  # ImageNet mean and std
    backbone=dict(
        type="ViT",
        arch="small",
        patch_size=14,
        img_size=224,
        checkpoint="work_dirs/vit-s_dinov2-b/student.safetensors",
    ),
    num_classes=1000,
    # 2 x 2 x 13 = 52 heads.
    layers=(1, 4),
    avgpool=(False, True),
    learning_rates=(1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1),
    # Released: float16 for the backbone. Here bfloat16 on GPUs that have it, float32 elsewhere; heads are float32.
    dtype="auto",
)
default_hooks = dict(
    # Saved after the validation of the same iteration, with the head that it found best.
    checkpoint=dict(type="BestHeadHook", interval=1250),
    # A run in which more than this share of the images cannot be read is stopped.
    corrupt_images=dict(type="CorruptImageHook", max_share=0.01),
)
log_processor = dict(mean_pattern=r".*(loss|cross_entropy|time|data_time).*")
