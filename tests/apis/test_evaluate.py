"""Which protocols, on which sets, at which size."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine.device.utils
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from proteus.apis import ConfigError
from proteus.apis.evaluate import CONFIGS, _load, backbone_summary, evaluate, protocol_configs
from proteus.models.backbones import locate_backbone
from proteus.structures import UserError

FOLDER = Path(__file__).parents[2] / "configs"


def write_classes(folder: Path, classes: int = 2, images: int = 1) -> Path:
    for part in ("train", "test"):
        for name in "abc"[:classes]:
            (folder / part / name).mkdir(parents=True)
            for number in range(images):
                Image.new("RGB", (32, 32), (40 * number, 0, 0)).save(folder / part / name / f"{number}.png")
    return folder


def sizes(value: Any) -> list[int]:
    if isinstance(value, dict):
        key = {"ResizeEdge": "scale", "CenterCrop": "crop_size", "RandomResizedCrop": "scale"}.get(value.get("type"))
        own = [] if key is None else [value[key]]
        return own + [size for item in value.values() for size in sizes(item)]
    return [size for item in value for size in sizes(item)] if isinstance(value, list) else []


def test_an_image_size_reaches_each_transform_once() -> None:
    cfg = protocol_configs(["linear"], FOLDER, img_size=112)["linear"].to_dict()
    assert sizes(cfg["protocol"]) == [128, 112]
    assert sizes(cfg["train_dataloader"]) == [112]
    assert sizes(cfg["val_dataloader"]) == sizes(cfg["test_dataloader"]) == [128, 112]


@pytest.mark.parametrize("img_size", [56, 518])
@pytest.mark.parametrize("name", ["imagenet-c", "imagenet-c_generated"])
def test_images_of_imagenet_c_are_resized_after_crop_and_corruption(name: str, img_size: int, tmp_path: Path) -> None:
    steps = _load(FOLDER / f"robustness/{name}.py", img_size).test_dataloader.dataset.pipeline
    if name == "imagenet-c_generated":
        kinds = [step.type for step in steps]
        assert sizes(steps[: kinds.index("Corrupt")]) == [256, 224]
        # The others are those of the released images.
        steps = [step for step in steps if step.type not in ("ResizeEdge", "Corrupt")]
    init_default_scope("proteus")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8))
    image.save(tmp_path / "x.png")
    info = {"img_path": str(tmp_path / "x.png"), "corruption": "fog", "severity": 1, "label": 0}
    found = Compose(steps)(info)["inputs"].permute(1, 2, 0).numpy()
    expected = np.asarray(image.resize((img_size, img_size), Image.Resampling.BICUBIC))
    assert np.array_equal(found, expected)


def test_labelled_folders_replace_the_sets_of_configs(tmp_path: Path) -> None:
    for name in ("a", "b", "x/a"):
        write_classes(tmp_path / name)
    names = [name for name in CONFIGS if name not in ("dense-knn", "retrieval")]
    loaded = protocol_configs(names, FOLDER, sets=[str(tmp_path / "a"), str(tmp_path / "b")])
    for name in ("knn", "linear", "linear-cached", "fine-grained"):
        assert loaded[name].protocol.sets.to_dict() == {
            key: {"type": "ClassFolders", "data_root": str(tmp_path / key)} for key in ("a", "b")
        }
    assert "sets" not in loaded["robustness"].protocol
    with pytest.raises(ConfigError, match="the same name"):
        protocol_configs(["knn"], FOLDER, sets=[str(tmp_path / "a"), str(tmp_path / "x/a")])


def test_a_config_file_is_a_protocol(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(f'_base_ = "{FOLDER / "knn/imagenet.py"}"\nprotocol = dict(ks=(5,))\n')
    assert protocol_configs([str(own)], FOLDER)["mine"].protocol.ks == (5,)
    with pytest.raises(ConfigError, match="no key 'protocol'"):
        protocol_configs([str(FOLDER / "proteus/vit-s_dinov2-b.py")], FOLDER)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"protocol.temprature": 3}, "unknown key of KNN; did you mean 'temperature'"),
        ({"protocol.sets.imagenet.type": "ImageNet1k"}, "did you mean 'ImageNet1K'"),
        ({"protocol.pipeline.1.scael": 3}, "did you mean 'scale'"),
        ({"protocol.type": "KN"}, "no protocol 'KN'"),
    ],
)
def test_a_wrong_key_is_reported_with_the_nearest(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        protocol_configs(["knn"], FOLDER, change)


def test_the_summary_of_a_backbone() -> None:
    """ViT-Ti/16 at 224 px: 5.52 M parameters without its classifier (timm)."""
    about = backbone_summary(locate_backbone("random:vit_tiny_patch16_224"), "cpu")
    assert about["width"] == 192
    assert round(about["parameters"] / 1e6, 2) == 5.52
    assert about["precision"] == "float32"
    assert backbone_summary(locate_backbone("random:resnet18"), "cuda")["width"] == 512


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder, "no such folder"),
        (lambda folder: folder.write_text("x"), "is a file"),
        (lambda folder: folder.mkdir(), "train is missing; expected train/CLASS"),
        (lambda folder: shutil.rmtree(write_classes(folder) / "test"), "test is missing"),
        (
            lambda folder: (write_classes(folder) / "test").rename(folder / "val"),
            "rename val to test, or add test/CLASS",
        ),
        (lambda folder: write_classes(folder, classes=1), "has one class"),
        (lambda folder: (write_classes(folder) / "train/a/0.png").unlink(), "train/a: the class folder has no images"),
        (lambda folder: (write_classes(folder) / "test/d").mkdir(), "test/d: the class folder has no images"),
        (
            lambda folder: (write_classes(folder) / "test/a").rename(folder / "test/z"),
            "unknown class 'z'; .* has 2 classes",
        ),
    ],
    ids=[
        "missing",
        "file",
        "empty",
        "no test",
        "val for test",
        "one class",
        "empty class",
        "empty test class",
        "another class",
    ],
)
def test_a_folder_with_another_layout_is_refused_at_start(
    tmp_path: Path, make: Callable[[Path], Any], words: str
) -> None:
    make(tmp_path / "own")
    with pytest.raises(UserError, match=rf"--sets '.*own'.*{words}"):
        protocol_configs(["knn"], FOLDER, sets=[str(tmp_path / "own")])


def test_sets_of_a_user_need_no_data_folder_and_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_classes(tmp_path / "own", images=3)
    monkeypatch.chdir(tmp_path)
    spec = locate_backbone("random:test_vit", img_size=32)
    own = protocol_configs(["knn"], FOLDER, {"protocol.ks": (1,)}, 32, ["own"])
    outcome = evaluate(spec, own, None, Path("out"), 32, device="cpu", batch_size=4, num_workers=0)["knn"]
    assert outcome.rows["own"]["test"] == 6
    with pytest.raises(UserError, match="--data-root 'data': no such folder"):
        evaluate(spec, protocol_configs(["knn"], FOLDER), None, Path("out"), device="cpu")
    with pytest.raises(UserError, match="--data-root 'nowhere': no such folder"):
        evaluate(spec, own, Path("nowhere"), Path("out"), device="cpu")


def test_a_run_uses_the_device_of_the_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine where MMEngine has found a GPU, a probe is trained and tested on the CPU."""
    monkeypatch.setattr(mmengine.device.utils, "DEVICE", "cuda")
    own = str(write_classes(tmp_path / "own", images=5))
    short = {"protocol.min_iterations": 2, "protocol.epochs": 1, "protocol.validations": 1}
    configs = protocol_configs(["linear-cached"], FOLDER, short, 32, [own])
    spec = locate_backbone("random:test_vit", img_size=32)
    (result,) = evaluate(spec, configs, None, tmp_path / "out", 32, device="cpu", num_workers=0).values()
    assert result.failed == {}
    assert 0 <= result.rows["own"]["test top-1"] <= 100
    assert mmengine.device.utils.DEVICE == "cuda"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        *(({"batch_size": value}, "batch_size") for value in (0, -1, 1.5, True, "8", None)),
        *(({"num_workers": value}, "num_workers") for value in (-1, 0.5, "2", True)),
        *(({"device": value}, "device") for value in ("gpu0", "cuda:77", "meta", "cpu:x", "CPU ")),
    ],
    ids=str,
)
def test_wrong_numbers_and_devices_are_refused_before_anything_is_written(
    tmp_path: Path, option: dict[str, Any], words: str
) -> None:
    spec = locate_backbone("random:test_vit", img_size=32)
    with pytest.raises(UserError, match=words):
        evaluate(spec, {}, tmp_path, tmp_path / "out", 32, **{"device": "cpu", **option})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [0, -32, 1.5, "32", True, None])
def test_a_wrong_size_of_images_is_refused(size: Any) -> None:
    with pytest.raises(UserError, match="img_size"):
        protocol_configs(["knn"], FOLDER, img_size=size)


@pytest.mark.parametrize("names", [[], ["knm"], ["knn", "knn"], [""], ["nothing.py"]])
def test_unknown_protocols_are_refused(names: list[str]) -> None:
    with pytest.raises(ConfigError):
        protocol_configs(names, FOLDER)


def test_each_protocol_takes_the_folders_of_its_kind(tmp_path: Path) -> None:
    write_classes(tmp_path / "birds")
    for part in ("images/train", "annotations/train", "images/val", "annotations/val"):
        (tmp_path / "streets" / part).mkdir(parents=True)
    both = [str(tmp_path / name) for name in ("birds", "streets")]
    loaded = protocol_configs(["knn", "dense-knn"], FOLDER, img_size=112, sets=both)
    assert {name: list(cfg.protocol.sets) for name, cfg in loaded.items()} == {
        "knn": ["birds"],
        "dense-knn": ["streets"],
    }
    assert loaded["dense-knn"].protocol.sets.streets.type == "MaskFolders"
    assert loaded["dense-knn"].protocol.pipeline[1].scale == 112
    for name, folders, layout in (("knn", both[1:], "train/CLASS"), ("dense-knn", both[:1], "images/{train,val}")):
        with pytest.raises(ConfigError, match=f"{name} reads {layout}"):
            protocol_configs([name], FOLDER, sets=folders)
