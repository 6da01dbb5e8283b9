# Zero-shot classification of ImageNet-1K (docs/evaluate.md#zero-shot-classification):
# proteus evaluate --backbone STUDENT#mapped --data-root data --protocols zero-shot \
#     --cfg-options protocol.text_tower=ViT-B-16-SigLIP2 protocol.text_weights=open_clip_model.safetensors
protocol = dict(
    type="ZeroShot",
    sets=dict(imagenet=dict(type="ImageNet1K")),
    # As CLIP's own images.
    pipeline=[
        dict(type="LoadImage"),
        dict(type="ResizeEdge", scale=224, interpolation="bicubic"),
        dict(type="CenterCrop", crop_size=224),
        dict(type="ToTensor"),
        dict(type="PackInputs"),
    ],
    # One of both: a file of class embeddings, or the teacher's name in open_clip with the file of its weights.
    class_embeddings=None,
    text_tower=None,
    text_weights=None,
    # CLIP's 80 for ImageNet; or sentences with {} for the name.
    templates="openai",
    # Folder of SET.txt with class names, in place of those of the class folders.
    names=None,
    # File with the image projection of a CLIP; a SigLIP has none.
    projection=None,
)
default_scope = "proteus"
