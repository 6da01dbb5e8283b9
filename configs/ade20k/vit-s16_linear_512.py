# ViT-S/16 at 512 px, frozen. Paper: DeiT 29.1, iBOT 30.4 mIoU. For other sizes, set arch and widths as in
# vit-b_linear.py.
_base_ = [
    "../_base_/models/segmentor_linear.py",
    "../_base_/datasets/ade20k_512.py",
    "../_base_/schedules/ade20k_linear_60k.py",
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
