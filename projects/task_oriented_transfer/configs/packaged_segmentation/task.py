# Shared by the steps: the packaged teacher and a small CNN, with sizes for one CPU core. compare_segmentation.py fills
# in folders, seeds and the labelled images.
_base_ = "../ade20k/task.py"

labelled = list(range(40))
teacher = dict(
    backbone=dict(arch="small", img_size=126),
    decode_head=dict(in_channels=[384] * 4, channels=4 * 384, num_classes=7),
)
# MobileNetV4-S of half width: maps of 48 x 48 to 6 x 6 at 192 px.
student = dict(
    backbone=dict(arch="mobilenetv4_conv_small_050", img_size=192),
    decode_head=dict(
        _delete_=True,
        type="mmseg.FCNHead",
        in_channels=[16, 32, 48, 480],
        in_index=[0, 1, 2, 3],
        input_transform="resize_concat",
        channels=64,
        num_convs=1,
        kernel_size=1,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=7,
        norm_cfg=dict(type="BN", requires_grad=True),
        align_corners=False,
        loss_decode=_base_._loss,
    ),
)
