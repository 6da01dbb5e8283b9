# Step (a), optional second part: fine-tune the whole teacher on the same labels, starting from teacher.py. Then use its
# checkpoint in task_oriented.py.
_base_ = "./teacher.py"

work_dir = "work_dirs/ade20k/teacher_finetune"
load_from = "work_dirs/ade20k/teacher/iter_4000.pth"
model = dict(backbone=dict(frozen=False, checkpoint=None))
optim_wrapper = dict(optimizer=dict(lr=1e-5))
