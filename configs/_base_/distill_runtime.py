# The run of a distillation.
_base_ = "./distill_runtime_no_eval.py"

default_hooks = dict(
    # Does it work? Under 1 % of the run (see OnlineEvalHook for the estimate). Off: default_hooks.online_eval=None,
    # or the base distill_runtime_no_eval.py where MMEngine's own Runner trains, which takes None for its own six hooks alone.
    online_eval=dict(
        type="OnlineEvalHook",
        interval=2500,
        images=1024,
        # data_root: a folder with a folder of images for each class; None: the validation set's, if it is one.
        knn=dict(data_root=None, classes=100, images_per_class=20, ks=(10, 20)),
    ),
)
