import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.task_oriented_transfer import compare
from projects.task_oriented_transfer.arguments import labelled_images
from projects.task_oriented_transfer.comparison import claim, table_of
from projects.task_oriented_transfer.embedding import Embedded, Item, embed
from projects.task_oriented_transfer.gallery import share_of, without, write_both
from proteus.apis import load_config
from proteus.datasets import ImageFolder
from proteus.models.backbones import locate_backbone
from proteus.structures import DataError

CONFIGS = Path(compare.__file__).parent / "configs"
TARGETS = ("eurosat", "ham10k", "places365", "imagenet", "packaged", "packaged_imagenet")
STEPS = sorted(path for folder in (".", *TARGETS) for path in (CONFIGS / folder).glob("*.py") if path.stem != "task")


@pytest.mark.parametrize("path", STEPS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_key_of_the_configs_is_known(path):
    # The checkpoint to start from is the output of an earlier step.
    cfg = load_config(path, {"load_from": None})

    # The same name, so that fine-tuning starts from the distilled head.
    names = {name for name, objective in cfg.model.objectives.items() if objective}
    assert names == ({"token"} if path.stem == "task_agnostic" else {"task"})


def test_packaged_students_get_the_same_images_and_steps():
    oriented, agnostic = (load_config(CONFIGS / f"packaged/task_{name}.py") for name in ("oriented", "agnostic"))

    for key in ("train_dataloader", "param_scheduler", "optim_wrapper", "train_cfg"):
        assert oriented[key] == agnostic[key]
    assert oriented.model.student == agnostic.model.student
    assert oriented.model.student == {
        key: value
        for key, value in load_config(CONFIGS / "packaged/finetune.py").model.student.items()
        if key != "checkpoint"
    }


def test_table_has_mean_and_standard_deviation():
    results = [{key: value for key in compare.ROWS if "own" not in key} for value in (50.0, 60.0, 70.0)]

    lines = table_of("top-1 accuracy, %", compare.ROWS, results).splitlines()

    assert len(lines) == 1 + len(results[0])
    assert lines[1].split()[-5:] == ["60.00", "10.00", "50.0", "60.0", "70.0"]
    one = table_of("top-1 accuracy, %", compare.ROWS, results[:1])
    assert one.splitlines()[1].split()[-3:] == [
        "50.00",
        "-",
        "50.0",
    ]


def test_output_folder_of_other_settings_is_rejected(tmp_path):
    claim(tmp_path / "out", {"labels": 10})
    claim(tmp_path / "out", {"labels": 10})

    with pytest.raises(DataError, match=r"has results of \{'labels': 10\}.*choose another folder"):
        claim(tmp_path / "out", {"labels": 5})


def grey(folder, of_each, seed):
    generator = np.random.default_rng(seed)
    for label, level in enumerate((40, 120, 200)):
        (folder / str(label)).mkdir(parents=True)
        for number in range(of_each):
            pixels = generator.normal(level, 60, (28, 28)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{label}/{number}.png")


def test_gallery_excludes_labelled_and_test_images_behind_links(tmp_path):
    for part, seed in (("train", 0), ("test", 1)):
        grey(tmp_path / f"sets/grey/{part}", 6, seed)
    grey(tmp_path / "sets/other", 4, 2)
    (tmp_path / "target").symlink_to(tmp_path / "sets/grey")
    labelled = labelled_images(tmp_path / "target/train", per_class=2, seed=0)
    spec = locate_backbone("random:resnet10t", img_size=32)
    whole = embed(spec, ImageFolder(str(tmp_path / "sets")), 32)

    gallery = without(whole, labelled, ImageFolder(str(tmp_path / "target/test")))
    # For an untrained backbone all greys are copies, which are skipped: use random features.
    unlike = np.random.default_rng(0).normal(size=(30, 64)).astype(np.float32)
    queries = Embedded(tmp_path / "target/train", [Item(name) for name in labelled.names()], unlike[:6])
    names = write_both(Embedded(gallery.root, gallery.items, unlike[6:]), queries, 2, 0, tmp_path / "out")

    assert len(gallery.items) == len(gallery.features) == 3 * (6 - 2 + 4)
    rows = {item.name: row for row, item in enumerate(whole.items)}
    own = ImageFolder(str(tmp_path / "target/train"))
    barred = {f"grey/train/{name}" for name in labelled.names()}
    np.testing.assert_array_equal(gallery.features, whole.features[[rows[item.name] for item in gallery.items]])
    assert len(names["retrieved"]) == len(names["random"]) == 12
    for how, chosen in names.items():
        read = ImageFolder(str(tmp_path / "sets"), list_file=str(tmp_path / "out" / how / "proxy_set.txt")).names()
        assert read == chosen
        assert len(set(chosen)) == 12
        assert not any(name.startswith("grey/test") or name in barred for name in chosen)
        expected = 100 * sum(name.startswith("grey/train") for name in chosen) / 12
        assert share_of(chosen, gallery.root, own) == pytest.approx(expected)


def test_retrieving_the_whole_gallery_is_rejected(tmp_path):
    table = Embedded(tmp_path, [Item("a.png"), Item("b.png")], np.float32([[1, 0], [0, 1]]))

    with pytest.raises(DataError, match="--gallery has 2 images, and all were retrieved"):
        write_both(table, table, 1, 0, tmp_path / "out")


def test_missing_faiss_is_reported_before_anything_is_trained(tmp_path, monkeypatch):
    grey(tmp_path / "data/train", 1, 0)
    monkeypatch.setitem(sys.modules, "faiss", None)
    places = ["--data", str(tmp_path / "data"), "--gallery", str(tmp_path / "data"), "--out", str(tmp_path / "out")]

    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        compare.main(compare.parse_args(places))

    assert not (tmp_path / "out/seed0").exists()


@pytest.mark.slow
@pytest.mark.parametrize("more", [["--gallery", "data", "--per-query", "2"], ["--imagenet"]], ids=lambda more: more[0])
def test_command_writes_its_table_and_resumes(tmp_path, monkeypatch, capsys, more, small_batches):
    small_batches(compare)
    for part, of_each in (("train", 20), ("test", 4)):
        grey(tmp_path / f"data/{part}", of_each, of_each)
    grey(tmp_path / "data/other", 40, 2)
    monkeypatch.chdir(tmp_path)
    arguments = ["--data", "data", "--seeds", "1", "--iterations", "2", "--finetune-iterations", "2", "--out", "out"]
    arguments += ["--labels-per-class", "18", *more]

    compare.main(compare.parse_args(arguments))

    printed = capsys.readouterr().out
    table = (tmp_path / "out/table.txt").read_text()
    assert table in printed
    titles = [line[:40].strip() for line in table.splitlines()[1:]]
    rows = ["imagenet"] if more == ["--imagenet"] else ["retrieved", "random", "own-retrieved", "own-random"]
    assert set(titles) > {compare.ROWS[key] for key in rows}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/seed0").rglob("*") if path.is_file()}
    compare.main(compare.parse_args(arguments))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out/seed0").rglob("*") if path.is_file()}
