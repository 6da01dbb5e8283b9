import csv
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import options, trained, write_images

from projects.task_oriented_transfer import adapt, compare
from projects.task_oriented_transfer.arguments import labelled_images
from projects.task_oriented_transfer.embedding import names_of
from projects.task_oriented_transfer.targets import HAM10000, Places365
from proteus.apis import ConfigError
from proteus.structures import DataError

CONFIGS = Path(compare.__file__).parent / "configs"
NO_WORKERS = {"num_workers": 0, "persistent_workers": False, "pin_memory": False}
EUROSAT = "AnnualCrop Forest HerbaceousVegetation Highway Industrial Pasture PermanentCrop Residential River SeaLake"
COLUMNS = ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization"]


@cache
def jpeg(colour, side):
    pixels = np.random.default_rng(colour).normal(20 * colour % 256, 15, (side, side, 3)).clip(0, 255)
    file = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "JPEG")
    return file.getvalue()


def write_jpeg(path, colour=0, side=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(colour, side))


def write_eurosat(root, of_each=30):
    for label, name in enumerate(EUROSAT.split()):
        for number in range(1, of_each + 1):
            write_jpeg(root / f"eurosat/2750/{name}/{name}_{number}.jpg", label)
    return root / "eurosat/2750"


def write_ham10000(root, lesions=12):
    """``lesions`` lesions of each diagnosis; every third has three photographs, in both folders."""
    rows, number = [], 24306
    for label, dx in enumerate(HAM10000.diagnoses):
        for lesion in range(lesions):
            for _ in range(3 if lesion % 3 == 0 else 1):
                rows.append(
                    [f"HAM_{100 * label + lesion:07}", f"ISIC_{number:07}", dx, "histo", "45.0", "male", "back"]
                )
                write_jpeg(root / f"HAM10000_images_part_{1 + number % 2}/ISIC_{number:07}.jpg", label, 32)
                number += 1
    # The official table is not sorted.
    rows = [rows[row] for row in np.random.default_rng(0).permutation(len(rows))]
    with (root / "HAM10000_metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return {row[1]: row for row in rows}


def write_places365(root, train="data_256", of_each=2):
    """All 365 classes, some in nested folders."""
    names = sorted(
        f"/{'abcdefghij'[number % 10]}/class{number}{'/indoor' * (number % 3 == 0)}" for number in range(365)
    )
    (root / train).mkdir(parents=True)
    lines = {"categories_places365": [], "places365_train_standard": [], "places365_val": []}
    for label, name in enumerate(names):
        lines["categories_places365"].append(f"{name} {label}")
        for number in range(1, of_each + 1):
            lines["places365_train_standard"].append(f"{name}/{number:08}.jpg {label}")
            write_jpeg(root / f"{train}{name}/{number:08}.jpg", label, 8)
        lines["places365_val"].append(f"Places365_val_{label + 1:08}.jpg {(7 * label) % 365}")
        write_jpeg(root / f"val_256/Places365_val_{label + 1:08}.jpg", label, 8)
    for stem, text in lines.items():
        (root / f"{stem}.txt").write_text("\n".join(text) + "\n")


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The configs' folder ``data``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def both(target):
    return [labelled_images(CONFIGS / target / "finetune.py", part) for part in ("train", "val")]


def test_all_targets_have_the_same_configs():
    for step in ("task_oriented", "finetune_task-oriented", "finetune_task-agnostic", "teacher_finetune"):
        assert (
            len({(CONFIGS / target / f"{step}.py").read_text() for target in ("eurosat", "ham10k", "places365")}) == 1
        )


def test_eurosat_labels_equal_torchvisions_and_splits_are_disjoint(data):
    from torchvision.datasets import EuroSAT

    root = write_eurosat(data)

    labelled, test = both("eurosat")

    official = EuroSAT(str(data))
    numbers = {str(Path(path).relative_to(root)): label for path, label in official.samples}
    for images in (labelled, test):
        assert adapt.labels_of(images).tolist() == [numbers[name] for name in names_of(images)]
    assert np.bincount(adapt.labels_of(labelled)).tolist() == [10] * 10
    assert not set(names_of(labelled)) & set(names_of(test))
    everything = labelled_images(CONFIGS / "eurosat/finetune.py", "train", per_class=1, seed=3)
    assert everything.full_size + len(test) == 300


def test_ham10000_splits_by_lesion(data):
    rows = write_ham10000(data / "ham10000")

    labelled, test = both("ham10k")
    whole = HAM10000("data/ham10000", "trainval")

    for images in (whole, labelled, test):
        named = [rows[Path(name).stem] for name in names_of(images)]
        assert adapt.labels_of(images).tolist() == [HAM10000.diagnoses.index(row[2]) for row in named]
        assert all(Path("data/ham10000", name).is_file() for name in names_of(images))
    lesions = [{rows[Path(name).stem][0] for name in names_of(images)} for images in (whole, test)]
    assert len(whole) + len(test) == len(rows)
    assert not lesions[0] & lesions[1]
    assert np.bincount(adapt.labels_of(labelled)).tolist() == [10] * 7
    assert set(names_of(labelled)) < set(names_of(whole))
    assert labelled.chosen() == {"": names_of(labelled)}
    assert "70 images" in labelled.describe()
    assert f"of {len(whole):,} (images_per_class=10, subset_seed=0)" in labelled.describe()


def test_selection_depends_on_the_seed(data):
    write_ham10000(data / "ham10000")
    first, again, other = (
        names_of(HAM10000("data/ham10000", "trainval", images_per_class=3, subset_seed=seed)) for seed in (0, 0, 1)
    )

    assert first == again
    assert first != other


@pytest.mark.parametrize("folder", ["data_256", "data_256_standard"])
def test_places365_equals_torchvisions(data, folder):
    from torchvision.datasets import Places365 as Official

    class Unchecked(Official):
        """Torchvision's, without the official files' digests, which no small copy has."""

        def _check_integrity(self, file, md5, download):
            return Path(file).exists()

    root = data / "places365"
    write_places365(root, folder)

    splits = (Places365("data/places365", "trainval"), Places365("data/places365", "test"))

    if folder == "data_256":
        (root / folder).rename(root / "data_256_standard")
    for images, split in zip(splits, ("train-standard", "val"), strict=True):
        official = Unchecked(str(root), split=split, small=True)
        names = [name.replace(f"{folder}/", "data_256_standard/") for name in names_of(images)]
        assert names == [str(Path(path).relative_to(root)) for path, _ in official.imgs]
        assert adapt.labels_of(images).tolist() == official.targets


def test_few_labels_of_places365_and_of_imagenet(data):
    write_places365(data / "places365", of_each=3)
    for part, of_each in (("train", 3), ("val", 1)):
        for label in range(1000):
            for number in range(of_each):
                write_jpeg(data / f"imagenet/{part}/n{10_000_000 + label}/{number}.JPEG", label, 8)
    for target, classes in (("places365", 365), ("imagenet", 1000)):
        config = CONFIGS / target / "finetune.py"

        labelled, test = labelled_images(config, "train", per_class=2), labelled_images(config, "val")

        assert np.bincount(adapt.labels_of(labelled)).tolist() == [2] * classes
        assert len(test) == classes
        adapt.check_classes(labelled, test)


@pytest.mark.parametrize(
    ("target", "missing", "message"),
    [
        ("eurosat", "eurosat/2750", r"no folder data/eurosat/2750"),
        ("ham10k", "ham10000/HAM10000_metadata.csv", r"HAM10000_metadata\.csv is missing"),
        ("ham10k", "ham10000/HAM10000_images_part_2", r"HAM10000_images_part_2 is missing"),
        ("ham10k", "ham10000", r"no folder data/ham10000\n.*HAM10000_metadata"),
        ("places365", "places365/places365_train_standard.txt", r"places365_train_standard\.txt is missing"),
        ("places365", "places365/data_256", r"data_256 is missing"),
        ("places365", "places365/data_256/a/class10/00000001.jpg", r"1 of the 730 .*/data_256/a/class10/00000001\.jpg"),
    ],
)
def test_missing_files_are_reported(data, target, missing, message):
    {"eurosat": write_eurosat, "ham10k": write_ham10000, "places365": write_places365}[target](
        data / {"eurosat": ".", "ham10k": "ham10000"}.get(target, target)
    )
    (data / missing).rename(data / "elsewhere")

    with pytest.raises(FileNotFoundError, match=message):
        labelled_images(CONFIGS / target / "finetune.py", per_class=1)


def test_unknown_diagnoses_are_reported_with_their_line(data):
    write_ham10000(data / "ham10000")
    table = data / "ham10000/HAM10000_metadata.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([lines[0], lines[1].replace(lines[1].split(",")[2], "wart"), *lines[2:]]))

    with pytest.raises(ConfigError, match=r"line 2: unknown class 'wart'; HAM10000 has 7 classes"):
        both("ham10k")
    table.write_text(table.read_text().replace("lesion_id", "lesion"))
    with pytest.raises(ConfigError, match="lacks the column lesion_id"):
        both("ham10k")


def test_too_few_images_and_classes_without_one_are_rejected(data):
    write_ham10000(data / "ham10000")
    with pytest.raises(ConfigError, match=r"images_per_class=500: only"):
        labelled_images(CONFIGS / "ham10k/finetune.py", per_class=500)
    table = data / "ham10000/HAM10000_metadata.csv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if ",df," not in line))

    with pytest.raises(DataError, match="has no training image of class 3"):
        adapt.check_classes(labelled_images(CONFIGS / "ham10k/finetune.py"), None)


def test_adapt_reads_a_target_config(data, capsys):
    write_ham10000(data / "ham10000")
    config = str(CONFIGS / "ham10k/finetune.py")
    arguments = ["--backbone", "random:resnet10t", "--img-size", "32", "--device", "cpu", "--out", "adapted.pth"]

    adapt.main(adapt.parse_args([*arguments, "--train", config, "--test", config]))

    printed = capsys.readouterr().out
    assert "adapted.pth: 7 classes from 70 images" in printed
    # Seven greys: chance is 14 %.
    assert float(printed.split("adapted teacher: ")[1]) > 50


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "write", "root"), [("eurosat", write_eurosat, "eurosat/2750"), ("ham10k", write_ham10000, ".")]
)
def test_all_steps_of_a_target_run(tmp_path, target, write, root):
    write(tmp_path)
    taught, distilled, tuned = (tmp_path / name for name in ("adapted.pth", "distilled", "tuned"))
    tests = ("val_dataloader", "test_dataloader")
    small = {
        **{f"{loader}.dataset.data_root": tmp_path / root for loader in tests},
        **{
            f"{loader}.dataset.pipeline.{step}.{key}": 28
            for loader in tests
            for step, key in ((1, "scale"), (2, "crop_size"))
        },
        **{f"{loader}.{key}": value for loader in ("train_dataloader", *tests) for key, value in NO_WORKERS.items()},
        "train_dataloader.dataset.pipeline.0.scale": 28,
        "train_dataloader.batch_size": 8,
        "model.student.arch": "resnet10t",
        "model.student.img_size": 28,
        "train_cfg.max_iters": 2,
        "train_cfg.val_interval": 2,
        "default_hooks.checkpoint.interval": 2,
    }
    oriented = {
        **small,
        "model.teacher.backbone.arch": "tiny",
        "model.teacher.backbone.img_size": 28,
        "model.teacher.backbone.checkpoint": taught,
        "model.teacher.classifier.checkpoint": taught,
        "train_dataloader.dataset.data_root": write_images(tmp_path / "web", 16),
    }
    few = {
        **small,
        "train_dataloader.dataset.data_root": tmp_path / root,
        "load_from": distilled / "iter_2.pth",
    }
    config = str(CONFIGS / target / "finetune.py")
    command = ["--backbone", "random:tiny", "--img-size", "28", "--device", "cpu", "--out", str(taught)]
    roots = [f"{loader}_dataloader.dataset.data_root={tmp_path / root}" for loader in ("train", "val")]

    adapt.main(adapt.parse_args([*command, "--train", config, "--test", config, "--cfg-options", *roots]))
    first = trained("train.py", CONFIGS / target / "task_oriented.py", "--work-dir", distilled, *options(oriented))
    last = trained("train.py", CONFIGS / target / "finetune_task-oriented.py", "--work-dir", tuned, *options(few))

    assert "accuracy/teacher" in first
    assert "accuracy/student" in last
    assert "images_per_class=10, subset_seed=0" in last
    # The run recorded exactly the labelled images that the teacher was adapted with.
    labelled = labelled_images(Path(config), cfg_options={"train_dataloader.dataset.data_root": tmp_path / root})
    written = (tuned / "proxy_set.txt").read_text().splitlines()
    assert written[1:] == names_of(labelled)
    assert (tuned / "student.safetensors").is_file()
