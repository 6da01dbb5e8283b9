# The linear probe of the student from configs/proteus/vit-ti_dinov2-s.py.
_base_ = "./vit-s.py"

model = dict(backbone=dict(arch="tiny", checkpoint="work_dirs/vit-ti_dinov2-s/student.safetensors"))
