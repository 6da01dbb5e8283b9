# With the teacher's embeddings of a few fixed views, and of all sentences, read from disk (README.md).
_base_ = "./recipe.py"

SENTENCES = dict(list_file="data/sentences.txt", held_out=1000, cache="work_dirs/cache/clip-l14/sentences")

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="UnpairedFixedViews",
        # Released: one feature for each image, whatever crop the student sees. Here as many crops as there are views.
        views=4,
        cache="work_dirs/cache/clip-l14/images",
        dataset=_base_.train_dataloader.dataset.dataset,
        sentences=dict(type="SentenceSet", split="train", **SENTENCES),
    ),
)
val_dataloader = dict(dataset=dict(sentences=dict(cache=SENTENCES["cache"])))
