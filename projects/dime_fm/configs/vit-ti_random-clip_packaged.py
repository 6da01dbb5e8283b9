# With a ViT and a small text tower of the student's own.
_base_ = "./mobilenetv4_random-clip_packaged.py"

model = dict(
    student=dict(
        image=dict(_delete_=True, type="ViT", arch="tiny", patch_size=14),
        text=dict(type="OpenClipText", width=64, layers=2, heads=2, context_length=24),
    ),
    losses=dict(pseudo_texts=dict(type="PseudoPairLoss", modality="texts", weight=0.3, temperature=1.0)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
