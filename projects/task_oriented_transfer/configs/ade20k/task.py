# Shared by the steps: teacher, student, and the labelled images of ADE20K.

# Every 20th image: 1,011 of 20,210. For another selection: range(7, 20210, 20).
labelled = list(range(0, 20210, 20))
_loss = dict(type="mmseg.CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0)
# DINOv2-B with one convolution on four blocks, as in configs/ade20k/vit-b_linear.py.
teacher = dict(
    type="mmseg.EncoderDecoder",
    backbone=dict(
        type="proteus.DenseViT",
        arch="base",
        patch_size=14,
        img_size=518,
        out_indices=(3, 5, 7, 11),
        final_norm=False,
        frozen=True,
        checkpoint=None,
    ),
    decode_head=dict(
        type="mmseg.FCNHead",
        in_channels=[768] * 4,
        in_index=[0, 1, 2, 3],
        input_transform="resize_concat",
        channels=4 * 768,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        num_classes=150,
        align_corners=False,
        loss_decode=_loss,
    ),
)
# FastViT-S12 and UperNet. For another timm CNN, set arch and the widths of its four maps: mobilenetv4_conv_medium
# [48, 80, 160, 960], resnet50 [256, 512, 1024, 2048]. For a ViT, use backbone, neck and widths of
# configs/_base_/models/segmentor_upernet.py, and type="ViT" and teacher.img_size=None in task_agnostic.py.
student = dict(
    type="mmseg.EncoderDecoder",
    backbone=dict(type="proteus.DenseTimm", arch="fastvit_s12", img_size=518, checkpoint=None),
    decode_head=dict(
        type="mmseg.UPerHead",
        in_channels=[64, 128, 256, 512],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=256,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=_loss,
    ),
)
