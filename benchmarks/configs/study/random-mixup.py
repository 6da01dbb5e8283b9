"""Each batch mixed with itself in another order, for teacher and student alike."""

_base_ = "./common.py"

model = dict(data_preprocessor=dict(type="MixupDataPreprocessor", mixup=1.0, cutmix=0.0, num_classes=None))
