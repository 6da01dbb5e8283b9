from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.task_oriented_transfer import compare
from proteus.apis import load_config
from proteus.structures import DataError

CONFIGS = Path(compare.__file__).parent / "configs"
STEPS = sorted(path for folder in ("eurosat", "packaged") for path in (CONFIGS / folder).glob("*.py"))


@pytest.mark.parametrize("path", [path for path in STEPS if path.stem != "small_views"], ids=lambda path: path.stem)
def test_every_key_of_the_configs_is_known(path):
    # What it starts from is an earlier step's.
    cfg = load_config(path, {"load_from": None})

    # One name, so that the fine-tuning goes on with the head that was distilled.
    names = {name for name, objective in cfg.model.objectives.items() if objective}
    assert names == ({"token"} if path.stem == "task_agnostic" else {"task"})


def test_the_packaged_comparison_gives_all_students_the_same_images_and_steps():
    oriented, agnostic = (load_config(CONFIGS / f"packaged/task_{name}.py") for name in ("oriented", "agnostic"))

    for key in ("train_dataloader", "param_scheduler", "optim_wrapper", "train_cfg"):
        assert oriented[key] == agnostic[key]
    assert oriented.model.student == agnostic.model.student
    assert oriented.model.student == {
        key: value
        for key, value in load_config(CONFIGS / "packaged/finetune.py").model.student.items()
        if key != "checkpoint"
    }


def test_the_table_has_mean_and_spread_of_the_seeds():
    results = [dict.fromkeys(compare.ROWS, value) for value in (50.0, 60.0, 70.0)]

    lines = compare.table_of(results).splitlines()

    assert len(lines) == 1 + len(compare.ROWS)
    assert lines[1].split()[-5:] == ["60.00", "10.00", "50.0", "60.0", "70.0"]
    assert compare.table_of(results[:1]).splitlines()[1].split()[-3:] == ["50.00", "-", "50.0"]


def test_a_folder_of_another_comparison_is_refused(tmp_path):
    compare.claim(tmp_path / "out", {"labels": 10})
    compare.claim(tmp_path / "out", {"labels": 10})

    with pytest.raises(DataError, match=r"holds the comparison \{'labels': 10\}.*give another folder"):
        compare.claim(tmp_path / "out", {"labels": 5})


@pytest.mark.slow
def test_the_command_ends_in_its_table_and_does_nothing_twice(tmp_path, monkeypatch, capsys):
    generator = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 4)):
        for label, colour in enumerate((40, 120, 200)):
            folder = tmp_path / f"data/{part}/{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.normal(colour, 20, (28, 28)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    arguments = compare.parse_args(
        ["--data", "data", "--seeds", "1", "--iterations", "3", "--labels-per-class", "18", "--out", "out"]
    )

    compare.main(arguments)

    printed = capsys.readouterr().out
    table = (tmp_path / "out/table.txt").read_text()
    assert table in printed
    assert len(table.splitlines()) == 1 + len(compare.ROWS)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/seed0").rglob("*") if path.is_file()}
    compare.main(arguments)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out/seed0").rglob("*") if path.is_file()}
