# HAM10000 in the layout of its archives. It has no split: a fifth of the lesions, selected by id, is for testing.
target = "ham10k"
num_classes = 7
test = dict(type="HAM10000", data_root="data/ham10000", split="test")
labelled = dict(test, split="trainval", images_per_class=10, subset_seed=0)
