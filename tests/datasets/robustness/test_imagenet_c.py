import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from proteus.datasets import CenterCrop, GeneratedImageNetC, ImageNetC, LoadImage, PackInputs, ToTensor
from proteus.datasets.robustness import imagenet_wnids
from proteus.datasets.robustness.imagenet_c import Part, PartList
from proteus.datasets.transforms.corruption import CORRUPTIONS
from proteus.evaluation.scores import ALEXNET_ERRORS

PIPELINE = [LoadImage(), CenterCrop(8), ToTensor(), PackInputs(keys=("corruption", "severity"))]
TWO = (imagenet_wnids()[5], imagenet_wnids()[700])
GROUPS = {"gaussian_noise": "noise", "defocus_blur": "blur", "snow": "weather", "pixelate": "digital"}


def write_released(root: Path, corruptions: tuple[str, ...], grouped: bool = False, images: int = 2) -> Path:
    """Parts of two classes; the colour of an image is its severity."""
    for corruption in corruptions:
        folder = root / GROUPS[corruption] / corruption if grouped else root / corruption
        for severity in range(1, 6):
            for wnid in TWO:
                (folder / str(severity) / wnid).mkdir(parents=True)
                for i in range(images):
                    path = folder / str(severity) / wnid / f"ILSVRC2012_val_{i:08}.JPEG"
                    Image.new("RGB", (12, 12), (40 * severity,) * 3).save(path)
    return root


def test_names_match_the_metric() -> None:
    assert tuple(ALEXNET_ERRORS) == CORRUPTIONS


@pytest.mark.parametrize("grouped", [False, True])
def test_both_layouts(tmp_path: Path, grouped: bool) -> None:
    root = write_released(tmp_path, tuple(GROUPS), grouped)
    images = ImageNetC(str(root), PIPELINE, all_classes=False)
    assert len(images) == 4 * 5 * 2 * 2
    metas = []
    for i in range(len(images)):
        sample = images[i]
        assert round(sample["inputs"].float().mean().item()) == pytest.approx(
            40 * sample["data_samples"].severity, abs=2
        )
        metas.append(sample["data_samples"].metainfo)
    keys = [(meta["corruption"], meta["severity"], meta["label"]) for meta in metas]
    order = [name for name in CORRUPTIONS if name in GROUPS]
    assert keys == [(c, s, label) for c in order for s in range(1, 6) for label in (5, 5, 700, 700)]
    assert all(f"{meta['corruption']}/{meta['severity']}/" in meta["img_path"] for meta in metas)
    assert images.source == images.metainfo["source"] == "ImageNet-C as released"
    assert "80 images, 20 parts of 4 (4 of 15 corruptions, 5 of 5 severities); without shot_noise" in images.describe()


def test_chosen_parts(tmp_path: Path) -> None:
    root = write_released(tmp_path, tuple(GROUPS))
    images = ImageNetC(str(root), PIPELINE, corruptions=["snow"], severities=[2, 5], all_classes=False)
    assert [(part.corruption, part.severity) for part in images.parts] == [("snow", 2), ("snow", 5)]
    few = ImageNetC(str(root), PIPELINE, indices=[0, -1], all_classes=False)
    assert [(few[i]["data_samples"].corruption, few[i]["data_samples"].severity) for i in (0, 1)] == [
        ("gaussian_noise", 1),
        ("pixelate", 5),
    ]


def test_parts_with_equal_names_share_the_list(tmp_path: Path) -> None:
    root = write_released(tmp_path, ("snow", "pixelate"))
    extra = root / "pixelate" / "3" / TWO[0]
    shutil.copy(extra / "ILSVRC2012_val_00000000.JPEG", extra / "ILSVRC2012_val_00000007.JPEG")
    images = ImageNetC(str(root), all_classes=False)
    lists = {id(part.names) for part in images.parts}
    assert len(lists) == 2
    assert len(images) == 41
    assert "10 parts of 4 or 5" in images.describe()


def test_part_list() -> None:
    names = [f"{TWO[0]}/a.JPEG", f"{TWO[1]}/b.JPEG"]
    parts = PartList([Part("snow", 1, Path("s"), names), Part("fog", 2, Path("f"), names[:1])])
    assert len(parts) == 3
    found = [parts[i] for i in range(3)]
    assert [entry["img_path"] for entry in found] == [f"s/{names[0]}", f"s/{names[1]}", f"f/{names[0]}"]
    assert [(entry["label"], entry["corruption"], entry["severity"]) for entry in found] == [
        (5, "snow", 1),
        (700, "snow", 1),
        (5, "fog", 2),
    ]
    assert parts[-1] == found[2]
    assert parts[1:] == found[1:]
    with pytest.raises(IndexError):
        parts[3]


def test_invalid_folders_are_named(tmp_path: Path) -> None:
    root = write_released(tmp_path / "c", ("snow", "pixelate"))
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; ImageNet-C has the layout DIR/CORRUPTION"):
        ImageNetC(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"/pixelate has no folder gaussian_noise; ImageNet-C has the layout"):
        ImageNetC(str(root / "pixelate"))
    with pytest.raises(FileNotFoundError, match=r"has no folder fog"):
        ImageNetC(str(root), corruptions=["snow", "fog"])
    with pytest.raises(ValueError, match=r"unknown haze; choose from gaussian_noise"):
        ImageNetC(str(root), corruptions=["haze"])
    with pytest.raises(ValueError, match=r"severities=\[0\]: choose from 1, 2, 3, 4, 5"):
        ImageNetC(str(root), severities=[0])
    with pytest.raises(ValueError, match=r"each part of ImageNet-C has 1000 class folders; .*/snow/1 has 2: it lacks"):
        ImageNetC(str(root))
    shutil.copytree(root / "snow", root / "weather" / "snow")
    with pytest.raises(ValueError, match=r"has two folders snow: .*c/snow and .*c/weather/snow"):
        ImageNetC(str(root), all_classes=False)
    shutil.rmtree(root / "weather")
    (root / "snow/4" / TWO[1]).rename(root / "snow/4/dog")
    with pytest.raises(ValueError, match=r"snow/4 has 1 folder without a class of ImageNet-1K: dog"):
        ImageNetC(str(root), all_classes=False)
    shutil.rmtree(root / "snow/4/dog")
    shutil.rmtree(root / "snow/4" / TWO[0])
    with pytest.raises(ValueError, match=r"snow/4 has no images"):
        ImageNetC(str(root), all_classes=False)
    (root / "snow/4").rmdir()
    with pytest.raises(ValueError, match=r"no folder .*snow/4: unpack"):
        ImageNetC(str(root), all_classes=False)


def test_generated_folders_are_distinguished(tmp_path: Path) -> None:
    root = write_released(tmp_path, ("snow", "pixelate"))
    marker = {"library": "some-library 1.2", "images": 4, "names": "", "quality": 85, "finished": ["snow"]}
    (root / "generated.json").write_text(json.dumps(marker))
    with pytest.raises(ValueError, match=r"the generation of pixelate was not finished"):
        ImageNetC(str(root), all_classes=False)
    images = ImageNetC(str(root), corruptions=["snow"], all_classes=False)
    assert images.describe().startswith("ImageNet-C generated with some-library 1.2, ")
    (root / "generated.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"generated\.json is damaged or was not written by tools/generate_imagenet_c\.py"
    ):
        ImageNetC(str(root), all_classes=False)


def test_on_the_fly_generation(tmp_path: Path) -> None:
    pytest.importorskip("imagecorruptions")
    for wnid in TWO:
        (tmp_path / wnid).mkdir()
        for i in range(3):
            Image.new("RGB", (12, 12)).save(tmp_path / wnid / f"{i}.JPEG")
    images = GeneratedImageNetC(str(tmp_path), PIPELINE, all_classes=False, images_per_class=2)
    assert len(images) == 15 * 5 * 4
    assert images.describe().startswith("ImageNet-C generated with imagecorruptions-imaug ")
    assert "300 images, 75 parts of 4 (15 of 15 corruptions, 5 of 5 severities)" in images.describe()
    info = images.get_data_info(4 * 5 * 2 + 4 * 2 + 3)
    assert (info["corruption"], info["severity"], info["label"]) == ("impulse_noise", 3, 700)
    with pytest.raises(ValueError, match=r"ImageNet-1K validation has 1000 class folders; .* has 2"):
        GeneratedImageNetC(str(tmp_path), PIPELINE)
