# As released: a longer grid and more iterations than in the paper (docs/reproduction.md#fine-grained-classification).
_base_ = "./all.py"

protocol = dict(recipe="released")
