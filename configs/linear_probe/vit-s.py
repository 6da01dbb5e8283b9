# DINOv2's linear probe (docs/reproduction.md#linear-probe) of the student from configs/proteus/vit-s_dinov2-b.py.
# For another backbone: --cfg-options model.backbone.checkpoint=FILE, or
# model = dict(backbone=dict(_delete_=True, type="TimmBackbone", ...)).
_base_ = [
    "../_base_/models/linear_probe.py",
    "../_base_/datasets/imagenet_probe.py",
    "../_base_/schedules/probe_10e_512.py",
    "../_base_/default_runtime.py",
]

model = dict(backbone=dict(checkpoint="work_dirs/vit-s_dinov2-b/student.safetensors"))
default_hooks = dict(
    # Saved after each validation, with the head that validation found best.
    checkpoint=dict(type="BestHeadHook", interval=1250),
    # Stop the run if more than 1 % of the images cannot be read.
    corrupt_images=dict(type="CorruptImageHook", max_share=0.01),
)
log_processor = dict(mean_pattern=r".*(loss|cross_entropy|time|data_time).*")
