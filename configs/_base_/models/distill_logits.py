# A ViT student and the logits of a DINOv2 teacher's ImageNet classifier: the baseline of the paper (eq. 1 to 3).
model = dict(
    type="Distiller",
    data_preprocessor=dict(type="DistillDataPreprocessor"),  # ImageNet mean and std
    teacher=dict(
        type="Teacher",
        backbone=dict(type="ViT", patch_size=14, img_size=224),
        # Released: torch.hub's default classifier, on four blocks, is loaded with the teacher but not used.
        classifier=dict(type="LinearClassifier", layers=4),
    ),
    student=dict(type="ViT", patch_size=14, img_size=224, init_values=1.0, drop_path_rate=0.0),
    objectives=dict(
        logits=dict(type="LogitsObjective", weight=1.0, alpha=1.0, loss=dict(type="SoftLogitsLoss", temperature=1.0)),
    ),
)
