# Step (c): backbone and head from task_oriented.py.
_base_ = "./finetune.py"

load_from = f"work_dirs/{_base_.target}/task_oriented/iter_30000.pth"
optim_wrapper = dict(optimizer=dict(lr=3e-4))
work_dir = f"work_dirs/{_base_.target}/finetune_task-oriented"
