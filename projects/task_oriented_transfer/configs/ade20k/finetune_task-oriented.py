# Step (c): the whole student, head included, from task_oriented.py.
_base_ = "./finetune.py"

work_dir = "work_dirs/ade20k/finetune_task-oriented"
load_from = "work_dirs/ade20k/task_oriented/segmentor.pth"
optim_wrapper = dict(optimizer=dict(lr=3e-4))
