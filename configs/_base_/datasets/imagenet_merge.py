# ImageNet-Merge: the training images of ImageNet-1K, twelve fine-grained sets, ADE20K and NYU-Depth V2, as plain
# folders of images. Keep masks and depth maps in other folders.
#
# Paper: "1.4M images", without a list. The sets that it names have 1,559,564 images; all of them are used here
# (docs/reproduction.md#proxy-sets). To leave one out: --cfg-options train_dataloader.dataset.datasets.cifar10=None
_base_ = "./imagenet.py"

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="ConcatProxySet",
        pipeline=_base_.train_pipeline,
        # Each image once per epoch, as in the paper; repeats=dict(cub=4) uses those of one set four times.
        repeats=dict(),
        datasets=dict(
            imagenet=dict(type="ImageFolder", data_root="data/imagenet/train"),  # 1,281,167
            aircraft=dict(type="ImageFolder", data_root="data/aircraft/trainval"),  # 6,667
            caltech101=dict(type="ImageFolder", data_root="data/caltech101/train"),  # 3,060
            cars=dict(type="ImageFolder", data_root="data/cars/train"),  # 8,144
            cifar10=dict(type="ImageFolder", data_root="data/cifar10/train"),  # 50,000
            cifar100=dict(type="ImageFolder", data_root="data/cifar100/train"),  # 50,000
            dtd=dict(type="ImageFolder", data_root="data/dtd/trainval"),  # 3,760
            flowers=dict(type="ImageFolder", data_root="data/flowers/trainval"),  # 2,040
            food101=dict(type="ImageFolder", data_root="data/food101/train"),  # 75,750
            pets=dict(type="ImageFolder", data_root="data/pets/trainval"),  # 3,680
            sun397=dict(type="ImageFolder", data_root="data/sun397/train"),  # 19,850
            voc2007=dict(type="ImageFolder", data_root="data/voc2007/trainval"),  # 5,011
            cub=dict(type="ImageFolder", data_root="data/cub/train"),  # 5,994
            ade20k=dict(type="ImageFolder", data_root="data/ade20k/images/training"),  # 20,210
            nyu=dict(type="ImageFolder", data_root="data/nyu/images/train"),  # 24,231
        ),
    ),
)
