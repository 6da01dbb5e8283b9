# configs/dpt/dpt_vit-b16_nyu.py of the Monocular-Depth-Estimation-Toolbox: ViT-B/16 pre-trained on ImageNet, tested on
# whole images and their mirror images. For a student with patches of 14 px, change the backbone, and the crop to a
# multiple of 14: (420, 546).
_base_ = [
    "../_base_/models/depth_dpt.py",
    "../_base_/datasets/nyu_toolbox.py",
    "../_base_/schedules/depth_24e_16.py",
    "../_base_/depth_runtime.py",
]

model = dict(
    backbone=dict(
        arch="vit_base_patch16_224",
        patch_size=16,
        img_size=224,
        init_values=None,
        drop_path_rate=0.0,
        interpolate_offset=0.0,
        out_indices=(2, 5, 8, 11),
        checkpoint="checkpoints/jx_vit_base_p16_224-80ecf9dd.pth",
    ),
    decode_head=dict(
        embed_dims=768,
        post_process_channels=(96, 192, 384, 768),
        norm=None,
        output="conv",
        min_depth=1e-3,
        max_depth=10.0,
        loss_decode=dict(_delete_=True, type="SigLoss", warm_up=True, warm_iter=100, loss_weight=1.0),
    ),
    test_cfg=dict(_delete_=True, mode="whole_flip"),
)
# The toolbox saves a checkpoint each epoch.
default_hooks = dict(checkpoint=dict(interval=1514))
