# Fine-tuning from ImageNet weights: timm's fastvit_s12.apple_in1k, with a new head.
_base_ = "./finetune.py"

work_dir = "work_dirs/ade20k/finetune_imagenet"
model = dict(backbone=dict(checkpoint="checkpoints/fastvit_s12.apple_in1k.safetensors"))
optim_wrapper = dict(optimizer=dict(lr=3e-4))
