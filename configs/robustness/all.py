# A linear probe of ImageNet-1K on other test sets (docs/reproduction.md#robustness):
# proteus evaluate --backbone NAME_OR_FILE --data-root data --protocols linear,robustness
protocol = dict(
    type="Robustness",
    tests={
        "imagenet": "imagenet-val.py",
        "imagenet-sketch": "imagenet-sketch.py",
        "imagenet-a": "imagenet-a.py",
        "imagenet-r": "imagenet-r.py",
        # Without ImageNet-C on disk, it is generated from the validation images while they are read.
        "imagenet-c": ["imagenet-c.py", "imagenet-c_generated.py"],
    },
)
default_scope = "proteus"
