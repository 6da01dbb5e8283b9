# vit-b32_clip-l14.py with the teacher's embeddings of fixed views and of all sentences cached on disk (README.md).
_base_ = "./recipe.py"

SENTENCES = dict(list_file="data/sentences.txt", held_out=1000, cache="work_dirs/cache/clip-l14/sentences")

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="UnpairedFixedViews",
        # Released: one feature per image, for any crop that the student sees. Here: one per view, of the same crop.
        views=4,
        cache="work_dirs/cache/clip-l14/images",
        dataset=_base_.train_dataloader.dataset.dataset,
        sentences=dict(type="SentenceSet", split="train", **SENTENCES),
    ),
)
val_dataloader = dict(dataset=dict(sentences=dict(cache=SENTENCES["cache"])))
