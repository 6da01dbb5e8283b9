# Table 11, first row: DeiT without a teacher.
_base_ = "./deit-ti_regnety.py"

model = dict(
    teacher=dict(_delete_=True, type="NoTeacher"),
    objectives=dict(
        logits=None,
        labels=dict(type="LabelObjective", loss=dict(type="CrossEntropyLoss", label_smoothing=0.1)),
    ),
)
default_hooks = dict(export=dict(teacher="none; trained on ImageNet-1K's labels"))
