from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import Runner
from safetensors.torch import load_file

import proteus
from proteus.checkpoints import read_state_dict
from proteus.checkpoints.description import read_description
from proteus.engine.hooks import StudentEMAHook
from proteus.engine.hooks.student_ema import delivered_weights
from proteus.evaluation.online.jsonl_log import read_jsonl

Make = Callable[..., Runner]
# The student and its average must differ at once.
FAST: dict[str, Any] = {"optim_wrapper__optimizer__lr": 0.01, "default_hooks__checkpoint__interval": 2}
KEY = "blocks.0.attn.qkv.weight"


def ema_of(runner: Runner) -> Any:
    return next(hook for hook in runner.hooks if isinstance(hook, StudentEMAHook))


def run(make_runner: Make, name: str, iters: int, hooks: list[dict[str, Any]] | None = None, **more: Any) -> Runner:
    hooks = [dict(type="StudentEMAHook", gamma=1.0)] if hooks is None else hooks
    options = {**FAST, "default_hooks__online_eval__interval": 1, "train_cfg__max_iters": iters, **more}
    runner = make_runner(name, hooks, **options)
    runner.train()
    return runner


def metrics(runner: Runner) -> list[dict[str, Any]]:
    lines = read_jsonl(Path(runner.work_dir) / "online_eval.jsonl")
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def quiet() -> Callable[[str], None]:
    return lambda line: None


def test_the_average_is_exported_evaluated_and_resumed(
    make_runner: Make, tmp_path: Path, quiet: Callable[[str], None]
) -> None:
    runner = run(make_runner, "whole", 4)
    folder = Path(runner.work_dir)
    average, plain = (load_file(folder / f"student{ending}.safetensors") for ending in ("", "_plain"))
    assert not (folder / "student_ema.safetensors").exists()
    torch.testing.assert_close(average, ema_of(runner).ema_model.module.student.timm_state(), atol=0, rtol=0)
    torch.testing.assert_close(plain, runner.model.student.timm_state(), atol=0, rtol=0)
    assert not torch.equal(average[KEY], plain[KEY])
    found = [read_description(folder / f"student{ending}.safetensors") for ending in ("", "_plain")]
    assert [about and about.weights for about in found] == ["ema", "plain"]
    # A checkpoint has both.
    checkpoint = folder / "iter_4.pth"
    for part, state in (("", plain), ("#ema", average)):
        weights = read_state_dict(f"{checkpoint}{part}")
        assert torch.equal(next(value for key, value in weights.items() if key.endswith(KEY)), state[KEY])

    # Training is the same as without the average, and so is the evaluation before it; later ones see the average.
    other = run(make_runner, "plain", 4, hooks=[])
    torch.testing.assert_close(load_file(Path(other.work_dir) / "student.safetensors"), plain, atol=0, rtol=0)
    assert metrics(other)[:2] == metrics(runner)[:2]  # the first update copies
    assert metrics(other)[2] != metrics(runner)[2]

    resume = {"resume": True, "load_from": str(folder / "iter_2.pth")}
    resumed = run(make_runner, "resumed", 4, **resume)
    for ending, state in (("", average), ("_plain", plain)):
        torch.testing.assert_close(
            load_file(Path(resumed.work_dir) / f"student{ending}.safetensors"), state, atol=0, rtol=0
        )
    assert metrics(resumed) == metrics(runner)[3:]

    # An exported folder and its card.
    (folder / "student_ema.safetensors").write_bytes((folder / "student_plain.safetensors").read_bytes())
    proteus.export(folder / "student.safetensors", tmp_path / "out", ["timm"], report=quiet)
    torch.testing.assert_close(load_file(tmp_path / "out/model.safetensors"), average, atol=0, rtol=0)
    assert "All files hold the exponential moving average" in (tmp_path / "out/README.md").read_text()
    assert not (tmp_path / "out/ema").exists()


def test_each_of_several_students_has_its_average(make_runner: Make, multi_student: dict[str, Any]) -> None:
    runner = run(make_runner, "several", 2, model=multi_student)
    folder = Path(runner.work_dir)
    names = {f"student_{name}{ending}" for name in ("tiny", "small") for ending in ("", "_plain")}
    assert {path.stem for path in folder.glob("*.safetensors")} == names
    state = ema_of(runner).ema_model.module.students["tiny"].student.timm_state()
    torch.testing.assert_close(load_file(folder / "student_tiny.safetensors"), state, atol=0, rtol=0)


def test_the_trained_weights_are_restored(make_runner: Make) -> None:
    runner = run(make_runner, "run", 2)
    weight = runner.model.student.vit.cls_token
    trained, average = weight.clone(), ema_of(runner).ema_model.module.student.vit.cls_token.clone()
    with delivered_weights(runner):
        assert torch.equal(weight, average)
    assert torch.equal(weight, trained)
    assert not torch.equal(trained, average)


def test_a_run_starts_from_the_weights_that_the_name_of_the_file_means(make_runner: Make) -> None:
    source = run(make_runner, "run", 2)
    states = {"": source.model.student.state_dict(), "#ema": ema_of(source).ema_model.module.student.state_dict()}
    assert not torch.equal(*(state[f"vit.{KEY}"] for state in states.values()))
    for part, wanted in states.items():
        file = f"{source.work_dir}/iter_2.pth{part}"
        runner = make_runner(f"next{part}", [dict(type="StudentEMAHook")], load_from=file)
        ema_of(runner).before_run(runner)
        runner.load_or_resume()
        for model in (runner.model, ema_of(runner).ema_model.module):
            torch.testing.assert_close(model.student.state_dict(), wanted, atol=0, rtol=0)
    # A test evaluates what the validation did.
    tested = make_runner("test", [], load_from=f"{source.work_dir}/iter_2.pth")
    tested.test()
    torch.testing.assert_close(tested.model.student.state_dict(), states["#ema"], atol=0, rtol=0)


@pytest.mark.parametrize("options", [{"horizon": 1}, {"gamma": 0.0}])
def test_wrong_numbers(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="write a horizon of 2 or more, and a gamma above 0"):
        StudentEMAHook(**options)
