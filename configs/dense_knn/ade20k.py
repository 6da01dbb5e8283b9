# In-context segmentation of ADE20K by dense k-NN, the Hummingbird protocol (docs/evaluate.md#in-context-segmentation):
# proteus evaluate --backbone NAME_OR_FILE --data-root data --protocols dense-knn --img-size 518
protocol = dict(
    type="DenseKNN",
    sets=dict(
        ade20k=dict(type="MaskFolders", data_root="ade/ADEChallengeData2016", num_classes=150, reduce_zero_label=True)
    ),
    # open-hummingbird-eval resizes validation images to squares, whatever their shape.
    pipeline=[
        dict(type="LoadImage"),
        dict(type="ResizeSquare", scale=224, interpolation="bilinear"),
        dict(type="ToTensor"),
        dict(type="PackInputs"),
    ],
    # Defaults of open-hummingbird-eval, n_neighbours and beta.
    k=30,
    temperature=0.02,
    # Ours: 100 x 1024 patches, 5 of each of ADE20K's 20,210 training images.
    memory_size=102400,
    seed=0,
    # Of sets that do not name them: found in the masks; 255 is always ignored.
    num_classes=None,
    ignore_index=(),
)
default_scope = "proteus"
