# ViT-S/16 at 512 px and UperNet. Paper: DeiT 42.5, iBOT 45.5 mIoU. For other sizes, see vit-b_upernet.py.
_base_ = [
    "../_base_/models/segmentor_upernet.py",
    "../_base_/datasets/ade20k_512.py",
    "../_base_/schedules/ade20k_upernet_60k.py",
    "../_base_/mmseg_runtime.py",
]

model = dict(
    data_preprocessor=dict(size=(512, 512), test_cfg=dict(size=(512, 512))),
    backbone=dict(
        patch_size=16,
        img_size=512,
        # DeiT, iBOT and similar ViTs have no LayerScale, and resize position embeddings without DINOv2's offset.
        init_values=None,
        interpolate_offset=0.0,
        checkpoint="checkpoints/deit_small_patch16_224.pth",
    ),
    test_cfg=dict(crop_size=(512, 512), stride=(341, 341)),
)
