# Logistic regression on frozen features (docs/reproduction.md#fine-grained-classification), on all sets on disk:
# proteus evaluate --backbone NAME_OR_FILE --data-root data --protocols fine-grained
protocol = dict(
    type="FineGrained",
    # Paper: 45 L2 constants in 1e-6...1e3, 500 iterations. Released: up to 1e5, 1000 iterations (recipe="released").
    recipe="paper",
    sets=dict(
        aircraft=dict(type="FGVCAircraft"),
        caltech101=dict(type="Caltech101"),
        cars=dict(type="StanfordCars"),
        cifar10=dict(type="CIFAR10"),
        cifar100=dict(type="CIFAR100"),
        dtd=dict(type="DTD"),
        flowers=dict(type="Flowers102"),
        food101=dict(type="Food101"),
        pets=dict(type="OxfordIIITPet"),
        sun397=dict(type="SUN397"),
        voc2007=dict(type="VOC2007"),
        cub=dict(type="CUB"),
        # Outside the paper's average (table 17).
        gtsrb=dict(type="GTSRB"),
        country211=dict(type="Country211"),
    ),
    pipeline=[
        dict(type="LoadImage"),
        dict(type="ResizeEdge", scale=224, interpolation="bicubic"),
        dict(type="CenterCrop", crop_size=224),
        dict(type="ToTensor"),
        dict(type="PackInputs"),
    ],
    # Released: CLIP's statistics for every backbone, although the students are trained with ImageNet's. For those that
    # the backbone was trained with: --cfg-options protocol.mean=None protocol.std=None
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
default_scope = "proteus"
