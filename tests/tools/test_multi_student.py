"""Several students in one run: the tools' own processes, two ranks, a kill and a resumption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import log_lines, options, tool, trained, weights

pytestmark = pytest.mark.slow

# The student of the small recipe, and a narrower one.
SEVERAL = """
alone = model
model = dict(
    _delete_=True,
    type="MultiStudentDistiller",
    teacher=dict(type="Teacher", backbone=dict(type="ViT", patch_size=14, **alone["teacher"]["backbone"])),
    students=dict(
        tiny=dict(student={{**learner, "embed_dim": 24}}, objectives=objectives),
        small=dict(student=learner, objectives=objectives),
    ),
)
"""
# No rounding that AdamW's usual eps would blow up to steps: the gradient of the keys' biases is nothing else.
STEADY: dict[str, Any] = {"optim_wrapper.optimizer.eps": 1e-6, "default_hooks.checkpoint.interval": 2}
STEADY["train_dataloader.sampler.repeats"] = 1  # with more, one process draws other images than two


@pytest.fixture(scope="module")
def several(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = config.read_text()
    objectives = "objectives = _base_.model.objectives\n"
    learner = 'learner = dict(**{**_base_.model.student, "arch": "tiny", "img_size": 56, "embed_dim": 48, '
    learner += '"depth": 2, "num_heads": 3})\n'
    path = tmp_path_factory.mktemp("several") / "several.py"
    path.write_text(text + objectives + learner + SEVERAL.format())
    return path


@pytest.fixture(scope="module")
def unbroken(several: Path) -> tuple[Path, str]:
    """Work directory and log of a run of one process."""
    folder = several.parent / "unbroken"
    return folder, trained("train.py", several, "--work-dir", folder, *options(STEADY))


def test_a_student_equals_that_of_a_separate_run(config: Path, unbroken: tuple[Path, str], tmp_path: Path) -> None:
    trained("train.py", config, "--work-dir", tmp_path, *options(STEADY))
    alone, together = weights(tmp_path / "iter_5.pth"), weights(unbroken[0] / "iter_5.pth")
    assert not any("teacher" in name for name in together)
    for name, value in alone.items():
        torch.testing.assert_close(together[f"students.small.{name}"], value, atol=1e-6, rtol=0)


def test_the_log_and_the_files_name_each(unbroken: tuple[Path, str]) -> None:
    folder, log = unbroken
    assert len(log_lines(log)) == 5
    for name in ("tiny", "small"):
        assert f"{name}.loss_patch: " in log_lines(log)[0]
        assert f"centered_cosine/{name}.patch: " in log
        assert (folder / f"student_{name}.safetensors").is_file()


def test_two_ranks_and_a_resumption_change_nothing(several: Path, unbroken: tuple[Path, str], tmp_path: Path) -> None:
    wanted = weights(unbroken[0] / "iter_5.pth")
    trained("train.py", several, "--work-dir", tmp_path, "--resume", unbroken[0] / "iter_2.pth", *options(STEADY))
    assert all(torch.equal(value, wanted[name]) for name, value in weights(tmp_path / "iter_5.pth").items())
    halves = options({**STEADY, "train_dataloader.batch_size": 4})
    trained("train.py", several, "--work-dir", tmp_path / "two", *halves, ranks=2)
    for name, value in weights(tmp_path / "two/iter_5.pth").items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=1e-5, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model.students.tiny.objectives.token.wieght", 2, "unknown key of TokenObjective; did you mean 'weight'?"),
        ("model.students.tiny.student.img_size", 84, "model.students.tiny.student.img_size is 84"),
    ],
)
def test_bad_input_is_reported_at_once(several: Path, tmp_path: Path, key: str, value: Any, words: str) -> None:
    done = tool("train.py", several, "--work-dir", tmp_path, *options({key: value}))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert key in done.stderr
    assert words in done.stderr
