# Zero-shot classification on the core's fine-grained sets that are on disk:
# python -m projects.dime_fm.zero_shot --config CONFIG --checkpoint FILE --data-root data --protocols sets
_base_ = "../../../../configs/fine_grained/all.py"

custom_imports = dict(imports=["projects.dime_fm.zero_shot_protocols"])

protocol = dict(
    _delete_=True,
    type="DualEncoderZeroShot",
    # Without sun397 and cub these are 12 of ELEVATER's 20 tasks.
    sets=_base_.protocol.sets,
    # Templates name the category, as CLIP's section 3.1.4 advises; the wording is this project's.
    templates=dict(
        default=["a photo of a {}.", "a good photo of a {}.", "a photo of one {}.", "a close photo of a {}."],
        aircraft=["a photo of a {}, a type of aircraft.", "a photo of the {}, a type of aircraft."],
        cars=["a photo of a {}, a type of car.", "a photo of the {}, a type of car."],
        cifar10=["a photo of a {}.", "a small photo of a {}.", "a blurry photo of a {}."],
        cifar100=["a photo of a {}.", "a small photo of a {}.", "a blurry photo of a {}."],
        dtd=["a photo of a {} texture.", "a photo of a {} pattern.", "a photo of something {}."],
        flowers=["a photo of a {}, a type of flower."],
        food101=["a photo of {}, a type of food."],
        pets=["a photo of a {}, a type of pet."],
        sun397=["a photo of a {}.", "a photo of the {}."],
        voc2007=["a photo of a {}.", "a photo of a {} among other things."],
        cub=["a photo of a {}, a type of bird."],
        gtsrb=["a photo of a traffic sign: {}.", "a close photo of the traffic sign {}."],
        country211=["a photo taken in {}.", "a photo of life in {}."],
    ),
)
