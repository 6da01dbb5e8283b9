# Step (d) on packaged data: the same student, images and iterations, and the teacher's features.
_base_ = ["./task_oriented.py"]

model = dict(
    teacher=dict(classifier=None),
    objectives=dict(task=None, token=dict(type="TokenObjective")),
)
# There are no classes to be right about.
val_evaluator = dict(_delete_=True, type="TeacherAgreement", patches_per_image=4)
test_evaluator = val_evaluator
