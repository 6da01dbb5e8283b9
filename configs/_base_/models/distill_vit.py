# A ViT student and a DINOv2 teacher, with the paper's three objectives (eq. 4 to 8; docs/reproduction.md#losses).
model = dict(
    type="Distiller",
    data_preprocessor=dict(type="DistillDataPreprocessor"),  # ImageNet mean and std
    teacher=dict(
        type="Teacher",
        # The position embedding of 518 px is interpolated to img_size once, when the weights are loaded, as in Meta's
        # release (offset 0.1, no antialiasing).
        backbone=dict(type="ViT", patch_size=14, img_size=224),
    ),
    student=dict(
        type="ViT",
        patch_size=14,
        img_size=224,
        init_values=1.0,
        mask_token=True,
        # Paper: "strictly follow DeiT", with its drop path of 0.1. Released: 0 (the option does not reach the model).
        drop_path_rate=0.0,
    ),
    objectives=dict(
        # Paper: squared L2 norms. Released: means over all elements, as MSELoss here.
        token=dict(type="TokenObjective", weight=1.0, head=dict(type="DistillHead"), loss=dict(type="MSELoss")),
        # Paper: one head for the whole feature. Released: its cls token goes through the token objective's head.
        feature=dict(
            type="FeatureObjective",
            weight=1.0,
            cls_term="token",
            head=dict(type="DistillHead"),
            loss=dict(type="MSELoss"),
        ),
        patch=dict(type="PatchObjective", weight=1.0, head=dict(type="DistillHead"), loss=dict(type="MSELoss")),
    ),
)
