# Places365-Standard's small images and lists in the layout of the archives; its validation images are the test images.
target = "places365"
num_classes = 365
test = dict(type="Places365", data_root="data/places365", split="test")
# For the paper's figure 4: images_per_class=250.
labelled = dict(test, split="trainval", images_per_class=10, subset_seed=0)
