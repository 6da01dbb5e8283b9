# Image-text retrieval on COCO and Flickr30k (docs/evaluate.md#image-text-retrieval):
# proteus evaluate --backbone STUDENT#mapped --data-root data --protocols retrieval \
#     --cfg-options protocol.text_tower=ViT-B-16-SigLIP2 protocol.text_weights=open_clip_model.safetensors
protocol = dict(
    type="Retrieval",
    # Karpathy's splits: 5,000 test images of COCO and 1,000 of Flickr30k, with all of their five or more captions.
    sets=dict(
        coco=dict(type="CaptionedImages", data_root="coco", ann_file="dataset_coco.json"),
        flickr30k=dict(type="CaptionedImages", data_root="flickr30k", ann_file="dataset_flickr30k.json"),
    ),
    # As CLIP's own images.
    pipeline=[
        dict(type="LoadImage"),
        dict(type="ResizeEdge", scale=224, interpolation="bicubic"),
        dict(type="CenterCrop", crop_size=224),
        dict(type="ToTensor"),
        dict(type="PackInputs"),
    ],
    # One of both: a file of caption embeddings, or the teacher's name in open_clip with the file of its weights.
    caption_embeddings=None,
    text_tower=None,
    text_weights=None,
    # Sentence with {} for the caption.
    template="{}",
    # File with the image projection of a CLIP; a SigLIP has none.
    projection=None,
)
default_scope = "proteus"
