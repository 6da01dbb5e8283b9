_base_ = "../../../../configs/_base_/runtime.py"

custom_imports = dict(imports=["projects.task_oriented_transfer.classifier", "projects.task_oriented_transfer.targets"])
# The watch compares features with the teacher's; here the accuracy on the target is what counts.
default_hooks = dict(watch=None)
