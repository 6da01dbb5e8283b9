# Two students in one run, each with the recipe of vit-s_dinov2-b.py. The teacher sees each image once.
_base_ = "./vit-s_dinov2-b.py"

single = _base_.model
model = dict(
    _delete_=True,
    type="MultiStudentDistiller",
    data_preprocessor=single.data_preprocessor,
    teacher=single.teacher,
    students=dict(
        tiny=dict(student=dict(single.student, arch="tiny"), objectives=single.objectives),
        small=dict(student=single.student, objectives=single.objectives),
    ),
)
