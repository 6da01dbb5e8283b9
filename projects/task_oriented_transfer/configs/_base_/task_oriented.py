# Step (b): distil the class predictions of the adapted DINOv2-B on unlabelled images into FastViT.
_base_ = ["./transfer_set.py", "./target_test.py", "./schedule.py", "./runtime.py"]

model = dict(
    type="Distiller",
    data_preprocessor=dict(type="DistillDataPreprocessor"),
    teacher=dict(
        type="Teacher",
        backbone=dict(type="ViT", arch="base", patch_size=14, img_size=224),
        classifier=dict(type="TaskClassifier"),
    ),
    # Other students: any timm CNN (arch="mobilenetv4_conv_medium", "resnet50"), or type="ViT".
    student=dict(type="TimmBackbone", arch="fastvit_s12", img_size=224),
    # Named task in every config, so that finetune_task-oriented.py also loads the head.
    objectives=dict(task=dict(type="LogitsObjective", loss=dict(type="SoftLogitsLoss", temperature=1.0))),
)
