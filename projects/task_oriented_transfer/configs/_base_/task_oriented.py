# Step (b): FastViT learns what the adapted DINOv2-B says of unlabelled images about a target's classes.
_base_ = ["./transfer_set.py", "./target_test.py", "./schedule.py", "./runtime.py"]

model = dict(
    type="Distiller",
    data_preprocessor=dict(type="DistillDataPreprocessor"),
    teacher=dict(
        type="Teacher",
        backbone=dict(type="ViT", arch="base", patch_size=14, img_size=224),
        classifier=dict(type="TaskClassifier"),
    ),
    # Or arch="mobilenetv4_conv_medium", "resnet50", any CNN of timm's; type="ViT" for a ViT of ours.
    student=dict(type="TimmBackbone", arch="fastvit_s12", img_size=224),
    # Called task in every config, so that finetune_task-oriented.py goes on with the head as well.
    objectives=dict(task=dict(type="LogitsObjective", loss=dict(type="SoftLogitsLoss", temperature=1.0))),
)
