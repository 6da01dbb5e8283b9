# A small text tower, too: CLIP ViT-B/32's (63 M parameters) in place of the teacher's (124 M). A reading of this
# project's: the losses between images have their counterparts between sentences, with the same weights.
_base_ = "./recipe.py"

model = dict(
    student=dict(text=dict(type="OpenClipText", width=512, layers=12, heads=8)),
    losses=dict(pseudo_texts=dict(type="PseudoPairLoss", modality="texts", weight=0.3, temperature=3.0)),
)
