# A ViT with a linear layer on its cls token, in mmpretrain's classifier: trained as a whole, from a backbone's weights.
model = dict(
    type="mmpretrain.ImageClassifier",
    # mixup 0.8, CutMix 1.0, one of the two for each batch: BEiT, MAE, iBOT, DeiT.
    data_preprocessor=dict(type="MMPretrainDataPreprocessor", num_classes=1000, mixup=0.8, cutmix=1.0),
    backbone=dict(type="ViT", patch_size=14, img_size=224, init_values=1.0),
    # iBOT (--use_cls), as the token objective trains the cls token. BEiT and MAE: pool="avg".
    neck=dict(type="TokenPooling", pool="cls"),
    head=dict(
        type="mmpretrain.LinearClsHead",
        num_classes=1000,
        # 0.1: BEiT, MAE, iBOT, DeiT.
        loss=dict(type="mmpretrain.LabelSmoothLoss", label_smooth_val=0.1, num_classes=1000),
        # Truncated normal, 2e-5: MAE; BEiT and iBOT come to the same by init_scale=0.001.
        init_cfg=dict(type="TruncNormal", layer="Linear", std=2e-5),
    ),
)
