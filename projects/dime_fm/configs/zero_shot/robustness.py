# Zero-shot top-1 on ImageNet and its variants, with the core's configs:
# python -m projects.dime_fm.zero_shot --config CONFIG --checkpoint FILE --data-root data --protocols robustness
custom_imports = dict(imports=["projects.dime_fm.zero_shot_protocols"])

_CORE = "../../../../configs/robustness"

protocol = dict(
    type="ZeroShotRobustness",
    templates="openai",
    tests={
        "imagenet": f"{_CORE}/imagenet-val.py",
        "imagenet-v2": "imagenet-v2.py",
        "imagenet-sketch": f"{_CORE}/imagenet-sketch.py",
        "imagenet-a": f"{_CORE}/imagenet-a.py",
        "imagenet-r": f"{_CORE}/imagenet-r.py",
        # Without ImageNet-C on disk, it is generated from the validation images while they are read.
        "imagenet-c": [f"{_CORE}/imagenet-c.py", f"{_CORE}/imagenet-c_generated.py"],
    },
    # The paper averages over five sets; ObjectNet is not supported here.
    averaged=["imagenet-v2", "imagenet-sketch", "imagenet-a", "imagenet-r"],
)
default_scope = "proteus"
