from typing import Any

import pytest
from mmengine.config import Config

from proteus.apis import ConfigError, load_config
from proteus.config.check_consistency import check_batch, check_sizes, crop_size
from proteus.datasets.transforms.crops import SizedTransform


@pytest.fixture
def cfg() -> Config:
    return load_config("configs/proteus/vit-ti_dinov2-s.py")


def test_a_recipe_is_consistent(cfg: Config) -> None:
    check_batch(cfg)
    check_sizes(cfg)


@pytest.mark.parametrize(("probability", "batch", "wanted"), [(0.5, 1, 2), (0.25, 3, 4)])
def test_a_batch_without_masked_images(cfg: Config, probability: float, batch: int, wanted: int) -> None:
    cfg.train_dataloader.collate_fn.probability = probability
    cfg.train_dataloader.batch_size = batch
    with pytest.raises(ConfigError, match=rf"train_dataloader\.batch_size = {batch}: .*at least {wanted}"):
        check_batch(cfg)
    cfg.train_dataloader.batch_size = wanted
    check_batch(cfg)


def test_micro_batches_divide_the_batch_and_its_masked_images(cfg: Config) -> None:
    cfg.train_dataloader.batch_size = 12
    cfg.model.micro_batches = 2
    check_batch(cfg)
    for parts in (5, 4):  # 4 divides 12 images, but not the 6 that are masked
        cfg.model.micro_batches = parts
        with pytest.raises(ConfigError, match=rf"model\.micro_batches = {parts} .*12 images, 6 .*one of 1, 2, 3, 6"):
            check_batch(cfg)
    cfg.train_dataloader.dataset.pipeline.pop(5)
    cfg.model.micro_batches = 4
    check_batch(cfg)


def test_mmengines_accumulation_is_refused_with_a_remedy(cfg: Config) -> None:
    cfg.optim_wrapper.accumulative_counts = 2
    with pytest.raises(ConfigError, match=r"accumulative_counts = 2: .*micro_batches = 2 .*batch_size = 256"):
        check_batch(cfg)


def test_one_image_is_enough_without_masks(cfg: Config) -> None:
    cfg.train_dataloader.batch_size = 1
    cfg.train_dataloader.dataset.pipeline.pop(5)
    check_batch(cfg)


def test_crop_and_patches_must_match_the_student(cfg: Config) -> None:
    cfg.model.student.update(img_size=256, patch_size=16)
    with pytest.raises(ConfigError) as caught:
        check_sizes(cfg)
    message = str(caught.value)
    assert "pipeline[0].scale = 224 (LoadRandomResizedCrop): model.student.img_size is 256" in message
    assert "pipeline[5].patch_size = 14: model.student.patch_size is 16" in message


def test_the_crop_must_match_the_backbone_of_a_classifier() -> None:
    cfg = load_config("configs/linear_probe/vit-s.py")
    check_sizes(cfg)
    cfg.model.backbone.img_size = 448
    with pytest.raises(ConfigError, match=r"scale = 224 \(RandomResizedCrop\): model\.backbone\.img_size is 448"):
        check_sizes(cfg)


def test_crop_and_patches_must_match_each_student() -> None:
    cfg = load_config("configs/proteus/vit-ti-and-s_dinov2-b.py")
    check_sizes(cfg)
    cfg.model.students.small.student.img_size = 448
    with pytest.raises(ConfigError) as caught:
        check_sizes(cfg)
    (problem,) = caught.value.problems
    assert problem.endswith("scale = 224 (LoadRandomResizedCrop): model.students.small.student.img_size is 448")


STUDENTS: dict[str, tuple[dict[str, Any], bool]] = {
    "cnn": ({"type": "TimmBackbone", "arch": "resnet18"}, True),
    "scoped cnn": ({"type": "proteus.TimmBackbone", "arch": "fastvit_t8"}, True),
    "cnn with a size": ({"type": "TimmBackbone", "arch": "resnet18", "img_size": 224}, False),
    "cnn with the size of the crop": ({"type": "TimmBackbone", "arch": "resnet18", "img_size": 140}, True),
    "model of a fixed size": ({"type": "TimmBackbone", "arch": "swin_tiny_patch4_window7_224"}, False),
    "model of any size": (
        {"type": "TimmBackbone", "arch": "eva02_tiny_patch14_224", "dynamic_img_size": True},
        True,
    ),
    "vit": ({"type": "ViT", "arch": "tiny"}, False),
    "model of mmpretrain": ({"type": "mmpretrain.ResNet", "depth": 18}, True),
    "unknown": ({"type": "MyOwn"}, True),
}


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_without_img_size(cfg: Config, name: str) -> None:
    """Crops of 140 px fit models of any size, and no model that is built for 224 px by default."""
    student, fits = STUDENTS[name]
    cfg.model.student = student
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline[0].scale = 140
    pipeline.pop(5)  # of a masked student
    if fits:
        check_sizes(cfg)
        return
    with pytest.raises(ConfigError) as caught:
        check_sizes(cfg)
    (problem,) = caught.value.problems
    wanted = "pipeline[0].scale = 140 (LoadRandomResizedCrop): model.student.img_size is 224"
    if "img_size" not in student:
        wanted += " where it is not written; write model.student.img_size=140"
    assert problem.endswith(wanted)


def test_the_last_crop_of_a_pipeline_counts(cfg: Config) -> None:
    pipeline = cfg.train_dataloader.dataset.pipeline
    pipeline[0].scale = 256
    pipeline.insert(1, {"type": "CenterCrop", "crop_size": (224, 224)})
    check_sizes(cfg)
    assert crop_size(cfg) == 224
    pipeline[1]["crop_size"] = 210
    with pytest.raises(ConfigError, match=r"pipeline\[1\]\.crop_size = 210 \(CenterCrop\)"):
        check_sizes(cfg)
    assert crop_size(cfg) == 210


class PatchCrop(SizedTransform):
    """Crop of a user, found by its base class."""

    size_argument = "side"


def test_a_crop_of_a_user_is_checked(cfg: Config) -> None:
    cfg.train_dataloader.dataset.pipeline.insert(1, {"type": PatchCrop, "side": 210})
    with pytest.raises(ConfigError, match=r"pipeline\[1\]\.side = 210 \(.*PatchCrop.*model\.student\.img_size is 224"):
        check_sizes(cfg)
    assert crop_size(cfg) == 210


def test_the_size_of_the_training_images() -> None:
    crop, other = ([{"type": "RandomResizedCrop", "scale": side}, {"type": "ToTensor"}] for side in (64, 96))
    sets = {
        "nested": {"dataset": {"pipeline": crop}},
        "merged": {"datasets": {"one": {"pipeline": crop}, "two": {"pipeline": crop}}},
        "two sizes": {"datasets": {"one": {"pipeline": crop}, "two": {"pipeline": other}}},
        "no crop": {"pipeline": [{"type": "ToTensor"}]},
    }
    found = {name: crop_size(Config({"train_dataloader": {"dataset": dataset}})) for name, dataset in sets.items()}
    assert found == {"nested": 64, "merged": 64, "two sizes": None, "no crop": None}


@pytest.mark.parametrize(
    ("mixed", "objective", "fits"),
    [
        (10, {"type": "LabelObjective", "num_classes": 10}, True),
        (10, {"type": "LabelObjective", "num_classes": 5}, False),
        (None, {"type": "LabelObjective", "num_classes": 5}, False),  # both classes' default is 1,000
        (10, {"type": "LogitsObjective", "num_classes": 5, "alpha": 0.5}, False),
        (10, {"type": "LogitsObjective", "num_classes": 5}, True),  # labels are not read
        (10, {"type": "TokenObjective"}, True),
        (10, None, True),
    ],
)
@pytest.mark.parametrize("students", [False, True])
def test_mixed_labels_have_the_objectives_number_of_classes(
    cfg: Config, mixed: int | None, objective: dict[str, Any] | None, fits: bool, students: bool
) -> None:
    cfg.model.data_preprocessor = {"type": "MixupDataPreprocessor", **({"num_classes": mixed} if mixed else {})}
    key = "model.objectives.labels"
    if students:
        cfg.model = load_config("configs/proteus/vit-ti-and-s_dinov2-b.py").model
        cfg.model.data_preprocessor = {"type": "MixupDataPreprocessor", **({"num_classes": mixed} if mixed else {})}
        cfg.model.students.small.objectives = {"labels": objective}
        key = "model.students.small.objectives.labels"
    else:
        cfg.model.objectives = {"labels": objective}
    if fits:
        check_sizes(cfg)
        return
    with pytest.raises(ConfigError) as caught:
        check_sizes(cfg)
    assert caught.value.problems == [
        f"model.data_preprocessor.num_classes = {mixed or 1000}: {key}.num_classes is 5; write the data set's number "
        "of classes for both"
    ]
