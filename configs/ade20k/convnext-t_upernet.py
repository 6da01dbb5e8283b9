# Any timm model can replace the ViT: here ConvNeXt-T at 512 px, with maps of four sizes, so without a neck. The recipe
# is that of ViT-S, untuned for ConvNeXt. The checkpoint has timm's parameter names.
_base_ = [
    "../_base_/models/segmentor_upernet.py",
    "../_base_/datasets/ade20k_512.py",
    "../_base_/schedules/ade20k_upernet_60k.py",
    "../_base_/mmseg_runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512), test_cfg=dict(size=(512, 512))),
    backbone=dict(
        _delete_=True,
        type="proteus.DenseTimm",
        arch="convnext_tiny",
        img_size=512,
        drop_path_rate=0.1,
        checkpoint="checkpoints/convnext_tiny.pth",
    ),
    neck=None,
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    test_cfg=dict(crop_size=(512, 512), stride=(341, 341)),
)
