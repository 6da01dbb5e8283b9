# There is no watch, which compares features with the teacher's: here the accuracy on the target is what counts.
_base_ = "../../../../configs/_base_/runtime_unwatched.py"

custom_imports = dict(imports=["projects.task_oriented_transfer.classifier", "projects.task_oriented_transfer.targets"])
