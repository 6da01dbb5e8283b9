# Step (b): FastViT learns what the adapted DINOv2-B says of unlabelled images about the target's classes.
_base_ = [
    "../_base_/transfer_set.py",
    "../_base_/target_test.py",
    "../_base_/schedule.py",
    "../_base_/runtime.py",
]

model = dict(
    type="Distiller",
    data_preprocessor=dict(type="DistillDataPreprocessor"),
    teacher=dict(
        type="Teacher",
        # What `adapt` wrote, or a checkpoint of teacher_finetune.py; one file holds both.
        backbone=dict(type="ViT", arch="base", patch_size=14, img_size=224, checkpoint="work_dirs/eurosat/adapted.pth"),
        classifier=dict(type="TaskClassifier", num_classes=10, checkpoint="work_dirs/eurosat/adapted.pth"),
    ),
    # Or arch="mobilenetv4_conv_medium", "resnet50", any CNN of timm's; type="ViT" for a ViT of ours.
    student=dict(type="TimmBackbone", arch="fastvit_s12", img_size=224),
    # Called task in every config, so that finetune_task-oriented.py goes on with the head as well.
    objectives=dict(
        task=dict(type="LogitsObjective", num_classes=10, loss=dict(type="SoftLogitsLoss", temperature=1.0))
    ),
)
