# DINO's k-NN on ImageNet-1K: proteus evaluate --backbone NAME_OR_FILE --data-root data --protocols knn
_base_ = "../_base_/datasets/frozen_features.py"

protocol = dict(
    type="KNN",
    sets=dict(imagenet=dict(type="ImageNet1K")),
    pipeline=_base_.pipeline,
    ks=(10, 20),
    temperature=0.07,
)
default_scope = "proteus"
