# A ViT with a linear layer on its cls token, in mmpretrain's classifier. Backbone and head are fine-tuned together.
model = dict(
    type="mmpretrain.ImageClassifier",
    # Mixup 0.8 or CutMix 1.0, one of the two per batch: BEiT, MAE, iBOT, DeiT.
    data_preprocessor=dict(type="MMPretrainDataPreprocessor", num_classes=1000, mixup=0.8, cutmix=1.0),
    backbone=dict(type="ViT", patch_size=14, img_size=224, init_values=1.0),
    # As iBOT (--use_cls), since the token objective trains the cls token. BEiT and MAE: pool="avg".
    neck=dict(type="TokenPooling", pool="cls"),
    head=dict(
        type="mmpretrain.LinearClsHead",
        num_classes=1000,
        # 0.1: BEiT, MAE, iBOT, DeiT.
        loss=dict(type="mmpretrain.LabelSmoothLoss", label_smooth_val=0.1, num_classes=1000),
        # Truncated normal of 2e-5: MAE. BEiT and iBOT get the same from init_scale=0.001.
        init_cfg=dict(type="TruncNormal", layer="Linear", std=2e-5),
    ),
)
