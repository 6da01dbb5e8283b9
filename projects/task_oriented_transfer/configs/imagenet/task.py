# ImageNet-1K; its validation images, in class folders, are the test images.
target = "imagenet"
num_classes = 1000
test = dict(type="LabelledFolder", data_root="data/imagenet/val", num_classes=num_classes)
labelled = dict(test, data_root="data/imagenet/train", images_per_class=10, subset_seed=0)
