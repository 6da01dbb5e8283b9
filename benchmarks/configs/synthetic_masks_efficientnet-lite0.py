"""As synthetic_masks_vit-s.py, for a CNN: the last four of its five maps, of strides 4 to 32."""

_base_ = "./synthetic_masks_vit-s.py"

custom_imports = dict(imports=["proteus", "projects.task_oriented_transfer.efficientnet"])  # reads the port's weights

model = dict(
    # The port's weights were made for these.
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        _delete_=True, type="proteus.DenseTimm", arch="tf_efficientnet_lite0", out_indices=(1, 2, 3, 4), frozen=True
    ),
    decode_head=dict(in_channels=[24, 40, 112, 320], channels=24 + 40 + 112 + 320),
)
