# Runtime of distillation runs.
_base_ = "./distill_runtime_no_eval.py"

default_hooks = dict(
    # Compares student and teacher during training; under 1 % of the run's time (see OnlineEvalHook for the estimate).
    # To disable it: default_hooks.online_eval=None. MMEngine's own Runner accepts None only for its six default hooks;
    # with it, use distill_runtime_no_eval.py as base.
    online_eval=dict(
        type="OnlineEvalHook",
        interval=2500,
        images=1024,
        # data_root: a folder with one folder of images per class; None: the validation set, if it has that layout.
        knn=dict(data_root=None, classes=100, images_per_class=20, ks=(10, 20)),
    ),
)
