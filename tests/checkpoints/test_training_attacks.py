import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors.torch import save_file

from proteus.checkpoints import CheckpointError
from proteus.checkpoints.training import check_resumable, load_checkpoint, use_safe_checkpoints


class Asks:
    """Pickled as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def test_what_a_run_saves_is_read(tmp_path: Path) -> None:
    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    hub = {"log_scalars": {"train/loss": buffer}, "runtime_info": {"eta": np.float64(2.5), "iter": np.int64(7)}}
    torch.save({"message_hub": hub, "state_dict": {"w": torch.ones(2)}}, tmp_path / "iter_1.pth")
    found = load_checkpoint(str(tmp_path / "iter_1.pth"))
    assert found["message_hub"]["runtime_info"] == {"eta": 2.5, "iter": 7}
    again = found["message_hub"]["log_scalars"]["train/loss"]
    again.update(5.0)
    assert again.mean() == 3.0
    assert again.statistics("max") == 5.0


@pytest.mark.parametrize(
    "trap",
    [
        Asks(open, "sprung", "w"),
        Asks(getattr, torch.Tensor, "numpy"),
        Asks(getattr, HistoryBuffer, "__init__"),
        Asks(eval, "open('sprung', 'w')"),
    ],
    ids=["open", "getattr", "getattr of a buffer", "eval"],
)
def test_code_is_refused(trap: Asks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "meta": trap}, "iter_1.pth")
    with pytest.raises(CheckpointError, match=r"iter_1\.pth .*was not opened"):
        load_checkpoint("iter_1.pth")
    assert not Path("sprung").exists()


def test_damaged_and_missing(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(1000)}}, tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:900])
    (tmp_path / "text.pth").write_text("no checkpoint at all")
    (tmp_path / "empty.pth").touch()
    for name in ("cut", "text", "empty"):
        with pytest.raises(
            CheckpointError, match=rf"{name}\.pth is damaged or not a checkpoint .*; use an earlier one"
        ):
            load_checkpoint(str(tmp_path / f"{name}.pth"))
    with pytest.raises(CheckpointError, match=r"not found: .*missing\.pth"):
        load_checkpoint(str(tmp_path / "missing.pth"))


def test_mmengine_reads_through_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))
    use_safe_checkpoints()
    torch.save({"meta": Asks(open, str(tmp_path / "sprung"), "w")}, tmp_path / "trap.pth")
    with pytest.raises(CheckpointError):
        CheckpointLoader.load_checkpoint(str(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()


def test_the_text_of_a_config_is_left_out(tmp_path: Path) -> None:
    # MMEngine's runner runs it as Python when it resumes.
    meta = {"iter": 3, "epoch": 0, "config": f"open({str(tmp_path / 'sprung')!r}, 'w')"}
    torch.save({"state_dict": {"w": torch.ones(2)}, "meta": meta, "message_hub": {}}, tmp_path / "iter_3.pth")
    found = load_checkpoint(tmp_path / "iter_3.pth")
    assert found["meta"] == {"iter": 3, "epoch": 0}
    check_resumable(found, "iter_3.pth")


@pytest.mark.parametrize("name", ["student.safetensors", "weights.pth", "released.pth"])
def test_weights_alone_start_a_run_and_do_not_resume_one(name: str, tmp_path: Path) -> None:
    state = {"w": torch.ones(2)}
    if name.endswith(".safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save({"model": state} if name == "released.pth" else state, tmp_path / name)
    found = load_checkpoint(tmp_path / name)
    assert list(found) == ["state_dict"]
    assert torch.equal(found["state_dict"]["w"], state["w"])
    with pytest.raises(CheckpointError, match=rf"{name} cannot be resumed from: it holds weights without meta"):
        check_resumable(found, tmp_path / name)


def test_weights_that_diverged_are_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.tensor([1.0, float("nan")])}, "meta": {}}, tmp_path / "iter_9.pth")
    with pytest.raises(CheckpointError, match=r"iter_9\.pth: w holds 1 of 2 values that are NaN"):
        load_checkpoint(tmp_path / "iter_9.pth")


@pytest.mark.parametrize("name", ["http://localhost:9/w.pth", "s3://a/w.pth", "torchvision://no_such_model"])
def test_what_mmengine_fetches_is_read_through_it_too(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    use_safe_checkpoints()
    with pytest.raises(CheckpointError, match=re.escape(name)):
        CheckpointLoader.load_checkpoint(name)
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    trap = {"state_dict": {"w": Asks(open, str(tmp_path / "sprung"), "w")}}
    torch.save(trap, tmp_path / "checkpoints/w.pth")
    with pytest.raises(CheckpointError):
        CheckpointLoader.load_checkpoint("http://localhost:9/w.pth")
    assert not (tmp_path / "sprung").exists()
