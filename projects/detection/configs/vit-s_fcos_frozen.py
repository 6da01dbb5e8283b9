# As vit-s_fcos.py, with a frozen backbone: only the pyramid and the head are trained.
_base_ = "./vit-s_fcos.py"

model = dict(backbone=dict(frozen=True, drop_path_rate=0.0))
val_evaluator = dict(results_file="work_dirs/vit-s_fcos_frozen/predictions.json")
test_evaluator = val_evaluator
