# Step (a), optional second part: fine-tune the whole teacher on the few labels, starting from the output of `adapt`.
_base_ = "./finetune.py"

model = dict(student=dict(_delete_=True, type="ViT", arch="base", patch_size=14, img_size=224))
load_from = f"work_dirs/{_base_.target}/adapted.pth"
optim_wrapper = dict(optimizer=dict(lr=1e-5))
default_hooks = dict(export=dict(teacher=f"none; DINOv2-B/14 (Meta, Apache-2.0) fine-tuned on {_base_.target}"))
work_dir = f"work_dirs/{_base_.target}/teacher_finetune"
