# Table 11, third row: DeiT distilled from DeiT-S. The paper does not state the loss; hard logits, DeiT's default, here.
_base_ = "./deit-ti_regnety.py"

model = dict(
    teacher=dict(
        backbone=dict(
            _delete_=True,
            type="ViT",
            arch="small",
            patch_size=16,
            img_size=224,
            init_values=None,
            checkpoint="checkpoints/deit_small_patch16_224-cd65a155.pth",
        ),
        classifier=dict(checkpoint="checkpoints/deit_small_patch16_224-cd65a155.pth"),
    )
)
default_hooks = dict(export=dict(teacher="DeiT-S/16 (Meta, Apache-2.0)"))
