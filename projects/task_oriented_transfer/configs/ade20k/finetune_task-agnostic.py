# Step (e): the backbone from task_agnostic.py, with a new head.
_base_ = "./finetune.py"

work_dir = "work_dirs/ade20k/finetune_task-agnostic"
model = dict(backbone=dict(checkpoint="work_dirs/ade20k/task_agnostic/student.safetensors"))
optim_wrapper = dict(optimizer=dict(lr=3e-4))
