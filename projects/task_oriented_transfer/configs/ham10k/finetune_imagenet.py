# Fine-tuning from ImageNet weights: timm's fastvit_s12.apple_in1k, with a new head.
_base_ = "./finetune.py"

model = dict(student=dict(checkpoint="checkpoints/fastvit_s12.apple_in1k.safetensors"))
optim_wrapper = dict(optimizer=dict(lr=3e-4))
work_dir = f"work_dirs/{_base_.target}/finetune_imagenet"
