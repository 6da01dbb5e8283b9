_base_ = [
    "../_base_/models/distill_vit.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/deit_300e_1024.py",
    "../_base_/distill_runtime.py",
]

# SynCLR's ViTs have no LayerScale. Released: the mask token starts at N(0, 0.02); here at zero, as for DINOv2.
model = dict(
    teacher=dict(backbone=dict(arch="large", init_values=None, checkpoint="checkpoints/synclr_vit_l_14.pth")),
    student=dict(arch="base", init_values=None),
)
default_hooks = dict(export=dict(teacher="SynCLR ViT-L/14 (Google, Apache-2.0)"))
