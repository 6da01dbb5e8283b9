import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from proteus.datasets import CenterCrop, ImageNetVariant, LoadImage, PackInputs, ToTensor
from proteus.datasets.robustness import imagenet_wnids, subset_classes
from proteus.evaluation import Top1Accuracy

PIPELINE = [LoadImage(), CenterCrop(8), ToTensor(), PackInputs()]


def write_classes(root: Path, classes: tuple[int, ...] | range, images: int = 1) -> Path:
    """A folder per class with the same small image, and the text file of the archives of A and R."""
    root.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (9, 9, 9)).save(root / "image.jpg")
    for number in classes:
        (root / imagenet_wnids()[number]).mkdir()
        for i in range(images):
            shutil.copy(root / "image.jpg", root / imagenet_wnids()[number] / f"{i}.jpg")
    (root / "image.jpg").unlink()
    (root / "README.txt").write_text("about")
    return root


def test_labels_do_not_depend_on_other_folders(tmp_path: Path) -> None:
    root = write_classes(tmp_path, (999, 7, 281), images=2)
    images = ImageNetVariant(data_root=str(root), pipeline=PIPELINE)
    assert [images[i]["data_samples"].label for i in range(6)] == [7, 7, 281, 281, 999, 999]
    part = ImageNetVariant(data_root=str(root), pipeline=PIPELINE, images_per_class=1)
    assert [part[i]["data_samples"].label for i in range(3)] == [7, 281, 999]


@pytest.mark.parametrize(("variant", "subset"), [("a", "imagenet_a"), ("r", "imagenet_r")])
def test_200_classes_of_a_and_r(tmp_path: Path, variant: str, subset: str) -> None:
    root = write_classes(tmp_path, subset_classes(subset))
    images = ImageNetVariant(data_root=str(root), variant=variant)
    assert sorted(images.get_data_info(i)["label"] for i in range(200)) == list(subset_classes(subset))
    published = {"a": "7,500", "r": "30,000"}[variant]
    assert f"200 images (200 images in the folder, {published} in the published set)" in images.describe()
    assert images.describe().startswith(f"ImageNet-{variant.upper()}, ImageNetVariant ")
    gone = imagenet_wnids()[subset_classes(subset)[3]]
    shutil.rmtree(root / gone)
    with pytest.raises(ValueError, match=rf"has 200 class folders; .* has 199: it lacks {gone}\."):
        ImageNetVariant(data_root=str(root), variant=variant)


def test_the_folder_of_another_variant_is_refused(tmp_path: Path) -> None:
    root = write_classes(tmp_path, subset_classes("imagenet_a"))
    with pytest.raises(
        ValueError, match=r"ImageNet-R has 200 class folders; .* has 200: it lacks .* and has .* more, "
    ):
        ImageNetVariant(data_root=str(root), variant="r")


def test_all_classes_of_sketch(tmp_path: Path) -> None:
    root = write_classes(tmp_path, range(1000))
    images = ImageNetVariant(data_root=str(root), variant="sketch")
    assert [images.get_data_info(i)["label"] for i in (0, 500, 999)] == [0, 500, 999]
    assert "50,889 in the published set" in images.describe()
    shutil.rmtree(root / "n01440764")
    with pytest.raises(ValueError, match=r"ImageNet-Sketch has 1000 class folders; .* has 999: it lacks n01440764"):
        ImageNetVariant(data_root=str(root), variant="sketch")


def test_invalid_folders_are_named(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "images", (1, 2))
    with pytest.raises(ValueError, match=r"dataset\.variant='v2': write one of 'val', 'a', 'r', 'sketch'"):
        ImageNetVariant(data_root=str(root), variant="v2")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        ImageNetVariant(data_root=str(tmp_path / "nowhere"))
    (root / imagenet_wnids()[3]).mkdir()
    with pytest.raises(ValueError, match=rf"{imagenet_wnids()[3]} has no images"):
        ImageNetVariant(data_root=str(root))
    (root / imagenet_wnids()[3]).rename(root / "tench")
    with pytest.raises(ValueError, match=r"has 1 folder without a class of ImageNet-1K: tench"):
        ImageNetVariant(data_root=str(root))
    (root / "tench").rmdir()
    Image.new("RGB", (8, 8)).save(root / "stray.png")
    with pytest.raises(ValueError, match=r"stray\.png is not in a class folder"):
        ImageNetVariant(data_root=str(root))


def test_unreadable_images_are_not_silently_replaced(tmp_path: Path) -> None:
    root = write_classes(tmp_path, (1, 2))
    (root / imagenet_wnids()[1] / "0.jpg").write_bytes(b"no image")
    sample = ImageNetVariant(data_root=str(root), pipeline=PIPELINE)[0]
    with pytest.raises(ValueError, match=rf"cannot be read: .*{imagenet_wnids()[1]}"):
        Top1Accuracy().process(None, [{**sample["data_samples"].metainfo, "logits": torch.zeros(1000)}])


def test_a_score_outside_the_200_never_wins() -> None:
    classes = subset_classes("imagenet_a")
    outside = sorted(set(range(1000)) - set(classes))
    logits = torch.zeros(2, 1000)
    logits[:, outside] = 50.0
    logits[0, classes[17]] = logits[1, classes[18]] = 1.0
    metric = Top1Accuracy(classes="imagenet_a")
    metric.process(None, [{"logits": row, "label": classes[17], "img_path": "x"} for row in logits])
    assert metric.evaluate(2) == {"accuracy/top1": 50.0}
    with pytest.raises(ValueError, match=r"has label 0"):
        metric.process(None, [{"logits": logits[0], "label": 0, "img_path": "x"}])
