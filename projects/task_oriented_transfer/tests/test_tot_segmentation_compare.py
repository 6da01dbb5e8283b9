import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from projects.task_oriented_transfer import compare_segmentation
from projects.task_oriented_transfer.comparison import table_of
from proteus.structures import DataError


def write_scenes(root, train=6, validation=2):
    """The layout of synthetic_dense.py: squares of three classes on a background, with label 0 at their edges."""
    generator = np.random.default_rng(0)
    for split, count in (("training", train), ("validation", validation)):
        for folder in ("images", "annotations"):
            (root / folder / split).mkdir(parents=True)
        for number in range(count):
            image, mask = generator.integers(90, 130, (168, 224, 3), dtype=np.uint8), np.ones((168, 224), np.uint8)
            for label, colour in ((2, (200, 40, 40)), (4, (40, 200, 40)), (7, (40, 40, 200))):
                top, left = (int(generator.integers(0, side - 60)) for side in (168, 224))
                image[top : top + 60, left : left + 60] = colour
                mask[top : top + 60, left : left + 60] = 0
                mask[top + 2 : top + 58, left + 2 : left + 58] = label
            Image.fromarray(image).save(root / f"images/{split}/{number}.jpg", quality=95)
            Image.fromarray(mask).save(root / f"annotations/{split}/{number}.png")
    return root


def test_table_has_mean_and_standard_deviation():
    results = [dict.fromkeys(compare_segmentation.ROWS, value) for value in (10.0, 20.0, 30.0)]

    lines = table_of("mIoU, %", compare_segmentation.ROWS, results).splitlines()

    assert len(lines) == 1 + len(compare_segmentation.ROWS)
    assert lines[1].split()[-5:] == ["20.00", "10.00", "10.0", "20.0", "30.0"]
    one = table_of("mIoU, %", compare_segmentation.ROWS, results[:1])
    assert one.splitlines()[1].split()[-3:] == [
        "10.00",
        "-",
        "10.0",
    ]


def test_more_labels_than_scenes_are_rejected(tmp_path):
    write_scenes(tmp_path / "data", 2, 1)
    arguments = ["--data", str(tmp_path / "data"), "--labels", "3", "--out", str(tmp_path / "out")]

    with pytest.raises(DataError, match=r"--labels 3: .*images/training has 2 scenes .*synthetic_dense\.py masks"):
        compare_segmentation.main(compare_segmentation.parse_args(arguments))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_command_writes_its_table_and_resumes(tmp_path, monkeypatch, capsys, small_batches):
    write_scenes(tmp_path / "data")
    small_batches(compare_segmentation)
    monkeypatch.chdir(tmp_path)
    options = ["--data", "data", "--seeds", "1", "--labels", "4", "--iterations", "2", "--label-iterations", "2"]
    arguments = compare_segmentation.parse_args([*options, "--out", "out"])

    compare_segmentation.main(arguments)

    table = (tmp_path / "out/table.txt").read_text()
    assert table in capsys.readouterr().out
    assert len(table.splitlines()) == 1 + len(compare_segmentation.ROWS)
    seed = tmp_path / "out/seed0"
    student = torch.load(seed / "task_oriented/segmentor.pth", weights_only=True)["state_dict"]
    checkpoint = torch.load(seed / "task_oriented/iter_2.pth", weights_only=False)["state_dict"]
    # segmentor.pth has exactly the student's weights of the checkpoint, with the names of the fine-tuning model.
    assert set(checkpoint) == {f"student.guest.{name}" for name in student}
    assert all(torch.equal(checkpoint[f"student.guest.{name}"], value) for name, value in student.items())
    tuned = torch.load(seed / "finetune_task-oriented/iter_2.pth", weights_only=False)["state_dict"]
    assert {name: value.shape for name, value in tuned.items()} == {n: v.shape for n, v in student.items()}
    features = load_file(seed / "task_agnostic/student.safetensors")
    assert {f"backbone.model.{name}" for name in features} == {n for n in student if n.startswith("backbone.")}
    # Four scenes were labelled, and the two fine-tuned heads differ from the distilled one.
    used = json.loads((seed / "scratch/result.json").read_text())["options"]
    assert len(used["train_dataloader.dataset.dataset.indices"]) == 4
    before = {path: path.stat().st_mtime_ns for path in seed.rglob("*") if path.is_file()}
    compare_segmentation.main(arguments)
    assert before == {path: path.stat().st_mtime_ns for path in seed.rglob("*") if path.is_file()}
