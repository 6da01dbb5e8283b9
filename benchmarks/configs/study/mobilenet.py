"""MobileNetV4-S under the ViT, from random weights, with Muon. Its patches are three levels of stride 8, 16 and 32 on
the grid of the first, 14x14; they are compared with the teacher's on the teacher's grid, 8x8.
"""

_base_ = "./plus-random.py"

model = dict(
    teacher=dict(dtype="bfloat16"),
    student=dict(_delete_=True, type="TimmBackbone", arch="mobilenetv4_conv_small", img_size=112, levels=(-3, -2, -1)),
    objectives=dict(
        _delete_=True,
        token=dict(type="TokenObjective"),
        feature=dict(type="FeatureObjective", cls_term="token"),
    ),
)
