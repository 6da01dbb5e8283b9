# As released: a longer grid and more iterations than the paper says.
_base_ = "./all.py"

protocol = dict(recipe="released")
