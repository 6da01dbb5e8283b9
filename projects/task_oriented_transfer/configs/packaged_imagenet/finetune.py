# Steps (c) and (e), random weights, and with model.student.checkpoint the ImageNet start.
_base_ = "../packaged/finetune.py"

half = [0.5] * 3
model = dict(data_preprocessor=dict(mean=half, std=half), student=dict(arch="tf_efficientnet_lite0"))
# Half the images a step: this student is the larger one.
train_dataloader = dict(batch_size=25)
auto_scale_lr = dict(base_batch_size=25)
