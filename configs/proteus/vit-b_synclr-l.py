# ViT-B/14 from SynCLR (docs/reproduction.md#synclr-and-clip). SynCLR's ViTs have no LayerScale.
_base_ = "./vit-s_dinov2-b.py"

# Released: the mask token starts at N(0, 0.02); here at zero, as for DINOv2.
model = dict(
    teacher=dict(backbone=dict(arch="large", init_values=None, checkpoint="checkpoints/synclr_vit_l_14.pth")),
    student=dict(arch="base", init_values=None),
)
default_hooks = dict(export=dict(teacher="SynCLR ViT-L/14 (Google, Apache-2.0)"))
