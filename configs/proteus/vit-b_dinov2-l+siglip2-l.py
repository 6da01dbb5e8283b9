# ViT-B/14 from two teachers, DINOv2-L and SigLIP2-L (docs/several_teachers.md). Not the paper's recipe, not measured.
_base_ = "./vit-b_dinov2-l.py"

single = _base_.model
standardization = dict(type="PHIStandardization", images=1024)
model = dict(
    _delete_=True,
    type="MultiTeacherDistiller",
    data_preprocessor=single.data_preprocessor,
    student=single.student,
    teachers=dict(
        dinov2=dict(teacher=single.teacher, objectives=single.objectives, standardization=standardization),
        siglip2=dict(
            teacher=dict(
                type="Teacher",
                img_size=256,  # 16 x 16 patches, as the student and DINOv2 have at 224 px
                mean=(0.5, 0.5, 0.5),
                std=(0.5, 0.5, 0.5),
                backbone=dict(
                    type="TimmBackbone",
                    arch="vit_large_patch16_siglip_256",
                    img_size=256,
                    checkpoint="checkpoints/vit_large_patch16_siglip_256.v2_webli.safetensors",
                ),
            ),
            objectives=single.objectives,
            standardization=standardization,
        ),
    ),
)
default_hooks = dict(
    export=dict(teacher="DINOv2 ViT-L/14 (Meta, Apache-2.0) and SigLIP2 ViT-L/16 (Google, Apache-2.0)")
)
