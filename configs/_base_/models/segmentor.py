# mmseg's EncoderDecoder with a ViT at 518 px; segmentor_linear.py and segmentor_upernet.py add the heads.
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,  # ignored
        size=(518, 518),
        # Pads only images that are smaller than the window; predictions on the padding are cropped.
        test_cfg=dict(size=(518, 518)),
    ),
    backbone=dict(type="proteus.DenseViT", arch="small", patch_size=14, img_size=518, out_indices=(3, 5, 7, 11)),
    train_cfg=dict(),
    test_cfg=dict(mode="slide", crop_size=(518, 518), stride=(345, 345)),
)
