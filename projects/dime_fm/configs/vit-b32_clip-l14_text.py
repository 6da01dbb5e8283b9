# With a smaller text tower: that of CLIP ViT-B/32 (63 M parameters) instead of the teacher's (124 M). Chosen by this
# project: sentences have the same losses as images, with the same weights.
_base_ = "./recipe.py"

model = dict(
    student=dict(text=dict(type="OpenClipText", width=512, layers=12, heads=8)),
    losses=dict(pseudo_texts=dict(type="PseudoPairLoss", modality="texts", weight=0.3, temperature=3.0)),
)
