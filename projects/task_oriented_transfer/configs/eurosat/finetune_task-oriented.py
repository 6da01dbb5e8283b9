# Step (c): backbone and head from task_oriented.py.
_base_ = "./finetune.py"

load_from = "work_dirs/task_oriented/iter_30000.pth"
optim_wrapper = dict(optimizer=dict(lr=3e-4))
