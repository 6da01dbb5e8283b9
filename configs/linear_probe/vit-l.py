# The linear probe of the student from configs/proteus/vit-l_dinov2-g.py.
_base_ = "./vit-s.py"

model = dict(backbone=dict(arch="large", checkpoint="work_dirs/vit-l_dinov2-g/student.safetensors"))
