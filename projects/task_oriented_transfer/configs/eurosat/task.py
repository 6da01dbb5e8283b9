# EuroSAT's RGB images in the layout of the archive. It has no split: a fifth of the images, by file name, is for
# testing.
target = "eurosat"
num_classes = 10
test = dict(type="LabelledFolder", data_root="data/eurosat/2750", num_classes=num_classes, split="held-out")
labelled = dict(test, split="train", images_per_class=10, subset_seed=0)
