# The linear probe of the student from configs/proteus/vit-b_dinov2-l.py.
_base_ = "./vit-s.py"

model = dict(backbone=dict(arch="base", checkpoint="work_dirs/vit-b_dinov2-l/student.safetensors"))
