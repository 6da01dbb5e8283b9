"""Earlier blocks of the teacher first."""

_base_ = "./common.py"

custom_hooks = [dict(type="TeacherDepthHook")]
