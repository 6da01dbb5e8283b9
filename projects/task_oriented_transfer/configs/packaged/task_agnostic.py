# Step (d) on packaged data: distil the teacher's features, with the same student, images and iterations.
_base_ = ["./task_oriented.py"]

model = dict(
    teacher=dict(classifier=None),
    objectives=dict(task=None, token=dict(type="TokenObjective")),
)
# The student has no class scores.
val_evaluator = dict(_delete_=True, type="TeacherAgreement", patches_per_image=4)
test_evaluator = val_evaluator
