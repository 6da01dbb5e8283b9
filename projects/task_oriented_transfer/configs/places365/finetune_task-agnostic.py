# Step (e): the backbone from ../task_agnostic.py, with a new head.
_base_ = "./finetune.py"

model = dict(student=dict(checkpoint="work_dirs/task_agnostic/student.safetensors"))
optim_wrapper = dict(optimizer=dict(lr=3e-4))
work_dir = f"work_dirs/{_base_.target}/finetune_task-agnostic"
