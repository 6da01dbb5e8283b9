# Step (c) and training from scratch; from ImageNet weights with model.student.checkpoint.
_base_ = "../packaged/finetune.py"

half = [0.5] * 3
model = dict(data_preprocessor=dict(mean=half, std=half), student=dict(arch="tf_efficientnet_lite0"))
# Half the batch size, since this student is larger.
train_dataloader = dict(batch_size=25)
auto_scale_lr = dict(base_batch_size=25)
