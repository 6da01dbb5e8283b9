# Step (a), its second half: the whole teacher on the same labels, from what teacher.py trained upon it while it was
# frozen. Name its checkpoint in task_oriented.py in place of the frozen one's.
_base_ = "./teacher.py"

work_dir = "work_dirs/ade20k/teacher_finetune"
load_from = "work_dirs/ade20k/teacher/iter_4000.pth"
model = dict(backbone=dict(frozen=False, checkpoint=None))
optim_wrapper = dict(optimizer=dict(lr=1e-5))
