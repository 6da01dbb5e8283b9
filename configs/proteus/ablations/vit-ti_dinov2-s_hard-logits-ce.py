# Table 12, third row: as vit-ti_labels.py, distilled from DINOv2-S with its ImageNet classifier. The paper does not
# state the loss; hard logits, DeiT's default, here.
_base_ = "./deit-ti_regnety.py"

model = dict(
    teacher=dict(
        backbone=dict(
            _delete_=True,
            type="ViT",
            arch="small",
            patch_size=14,
            img_size=224,
            checkpoint="checkpoints/dinov2_vits14_pretrain.pth",
        ),
        classifier=dict(layers=4, avgpool=True, checkpoint="checkpoints/dinov2_vits14_linear4_head.pth"),
    ),
    student=dict(patch_size=14, init_values=1.0),
)
default_hooks = dict(export=dict(teacher="DINOv2 ViT-S/14 with its ImageNet classifier (Meta, Apache-2.0)"))
