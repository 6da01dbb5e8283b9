import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader

from proteus.checkpoints import CheckpointError
from proteus.checkpoints.training import Checkpoint, check_resumable, load_checkpoint, use_safe_checkpoints

WEIGHTS = {"w": torch.tensor([1.0, 2.0])}
RUN = {"state_dict": WEIGHTS, "message_hub": {}, "optimizer": {}, "param_schedulers": []}


class Call:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def test_a_checkpoint_is_read_whole_but_for_the_config(tmp_path: Path) -> None:
    path = save(tmp_path / "iter_1.pth", {**RUN, "meta": {"iter": 1, "epoch": 0, "config": "x = 1"}})
    checkpoint = load_checkpoint(path)
    assert checkpoint["meta"] == {"iter": 1, "epoch": 0}
    assert checkpoint["state_dict"]["w"].tolist() == [1.0, 2.0]
    assert checkpoint["param_schedulers"] == []
    assert checkpoint.source == path
    check_resumable(checkpoint, path)
    assert load_checkpoint(path, "meta")["state_dict"]["w"].is_meta


def test_bare_weights_become_a_state_dict(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(save(tmp_path / "a.pth", WEIGHTS))
    assert checkpoint["state_dict"]["w"].tolist() == [1.0, 2.0]
    assert set(checkpoint) == {"state_dict"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"state_dict": {"w": torch.tensor([math.nan])}}, "w"),
        ({"state_dict": WEIGHTS, "ema_state_dict": [1]}, "ema_state_dict is a list, not tensors by name"),
        ({"state_dict": {}, "ema_state_dict": {"v": torch.tensor([math.inf])}}, "v"),
    ],
)
def test_wrong_weights_are_named(content: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value).removeprefix(str(path))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "iter_1.pth"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"iter_1\.pth is damaged or "):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"meta": None}, "a.pth cannot be resumed from: meta is a NoneType"),
        ({"optimizer": [1]}, "a.pth cannot be resumed from: optimizer is a list"),
        ({"meta": {"epoch": 0}}, "a.pth cannot be resumed from: meta.iter is None, not a whole number"),
        ({"meta": {"epoch": -1, "iter": 1}}, "a.pth cannot be resumed from: meta.epoch is -1, not a whole number"),
    ],
)
def test_a_checkpoint_that_cannot_be_resumed(change: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        check_resumable({**RUN, "meta": {"epoch": 0, "iter": 1}, **change}, "a.pth")
    assert str(caught.value) == words


def test_weights_alone_cannot_be_resumed() -> None:
    with pytest.raises(CheckpointError, match=r"holds weights without meta, message_hub\. Resume from an iter_\*\.pth"):
        check_resumable(Checkpoint({"state_dict": WEIGHTS}, Path("a.pth")), "a.pth")


def test_mmengine_reads_checkpoints_as_data(tmp_path: Path) -> None:
    use_safe_checkpoints()
    path = save(tmp_path / "a.pth", {"state_dict": WEIGHTS, "meta": Call(tmp_path / "canary")})
    with pytest.raises(CheckpointError):
        CheckpointLoader.load_checkpoint(str(path), map_location="cpu")
    assert not (tmp_path / "canary").exists()
    with pytest.raises(CheckpointError, match="copy the file to this machine and give its path"):
        CheckpointLoader.load_checkpoint("s3://bucket/a.pth")


def test_published_names_are_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_safe_checkpoints()
    path = save(tmp_path / "a.pth", WEIGHTS)
    monkeypatch.setattr(mmengine_checkpoint, "get_torchvision_models", lambda: {"resnet18": str(path)})
    loaded = CheckpointLoader.load_checkpoint("torchvision://resnet18", map_location="cpu")
    assert loaded["state_dict"]["w"].tolist() == [1.0, 2.0]
    with pytest.raises(CheckpointError, match=r"torchvision://resnet19: no published weights of this name"):
        CheckpointLoader.load_checkpoint("torchvision://resnet19")
