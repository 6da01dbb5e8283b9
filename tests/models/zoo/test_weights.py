"""Where a model's weights are looked for, and the one line that says where to put them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch

from proteus.checkpoints import CheckpointError, hub_cache
from proteus.models.zoo import find_model, find_weights, weights_on_disk


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights: an empty current folder, torch.hub folder and cache of the Hugging Face hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))


def place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def cached(repository: str, file: str, root: Path) -> Path:
    """Put a file into the cache of the hub."""
    folder = root / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("abc")
    return place(folder / "snapshots/abc" / file)


@pytest.mark.parametrize(
    "file",
    ["dinov2_vitb14_pretrain.pth", "dinov2_vitb14_pretrain.safetensors", "vit_base_patch14_dinov2.lvd142m.safetensors"],
)
def test_official_names_in_checkpoints(file: str) -> None:
    place(Path("checkpoints") / file)
    assert find_weights(find_model("dinov2_vitb14")) == Path("checkpoints") / file
    assert weights_on_disk(find_model("dinov2_vits14")) is None


def test_order_of_places(tmp_path: Path) -> None:
    record = find_model("dinov2_vits14")
    hub = cached("timm/vit_small_patch14_dinov2.lvd142m", "model.safetensors", tmp_path / "hub")
    assert find_weights(record) == hub
    torch_hub = place(tmp_path / "torch/checkpoints/dinov2_vits14_pretrain.pth")
    assert find_weights(record) == torch_hub
    place(tmp_path / "elsewhere/dinov2_vits14_pretrain.pth")
    assert find_weights(record, folder=Path("elsewhere")) == Path("elsewhere/dinov2_vits14_pretrain.pth")


@pytest.mark.parametrize("name", ["dinov2_vitb14", "timm/vit_base_patch14_dinov2.lvd142m", "synclr_vitl14", "vit_tiny"])
def test_absent_weights_give_one_line(name: str) -> None:
    record = find_model(name)
    with pytest.raises(CheckpointError) as caught:
        find_weights(record)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(name)
    if name == "vit_tiny":
        assert "write random:vit_tiny" in message
        return
    assert f"put {record.files[0]} ({record.url}) into checkpoints/" in message
    assert ("--download" in message) == (record.hub_id is not None)


def test_download_fetches_from_the_hub_only_what_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fetch(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(tmp_path / "fetched.safetensors")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    record = find_model("clip_vitb16")
    assert find_weights(record, download=True) == tmp_path / "fetched.safetensors"
    assert asked == [("timm/vit_base_patch16_clip_224.openai", "model.safetensors")]
    place(Path("checkpoints/ViT-B-16.pt"))
    assert find_weights(record, download=True) == Path("checkpoints/ViT-B-16.pt")
    assert len(asked) == 1
    with pytest.raises(CheckpointError, match="it is not on the Hugging Face hub, so --download cannot fetch it"):
        find_weights(find_model("synclr_vitb16"), download=True)


def test_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> str:
        raise OSError("no route to host.\nSecond line")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(CheckpointError, match=r"model.safetensors of https://huggingface.co/a/b cannot be.*no route"):
        hub_cache.download_file("a/b", "model.safetensors")


def test_wrong_repository_name() -> None:
    with pytest.raises(CheckpointError, match=r"'a/../b' is not the id of a repository"):
        hub_cache.cached_file("a/../b", "config.json")
