# Without OnlineEvalHook, which compares features with the teacher's: here only the accuracy on the target matters.
_base_ = "../../../../configs/_base_/distill_runtime_no_eval.py"

custom_imports = dict(
    imports=[
        "projects.task_oriented_transfer.classifier",
        "projects.task_oriented_transfer.efficientnet",
        "projects.task_oriented_transfer.targets",
    ]
)
