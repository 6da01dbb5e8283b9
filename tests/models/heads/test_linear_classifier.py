from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from proteus.checkpoints import CheckpointError
from proteus.models import LinearClassifier
from proteus.structures import Features


def level(first: float) -> Features:
    """One image of two patches in two channels."""
    patches = torch.tensor([[[first, 0.0], [first + 2, 4.0]]])
    return Features(torch.tensor([[first, 10 * first]]), patches, (1, 2))


def weights(columns: int, prefix: str = "", classes: int = 3) -> dict[str, Tensor]:
    weight = torch.arange(classes * columns, dtype=torch.float32).view(classes, columns)
    return {f"{prefix}weight": weight, f"{prefix}bias": torch.arange(classes, dtype=torch.float32)}


def test_one_block_is_cls_and_mean_patch(tmp_path: Path) -> None:
    save_file(weights(4), tmp_path / "head.safetensors")
    head = LinearClassifier(in_dim=2, num_classes=3, layers=1, checkpoint=tmp_path / "head.safetensors")
    # cls (1, 10), mean patch (2, 2); rows (0 1 2 3), (4 5 6 7), (8 9 10 11), biases 0, 1, 2.
    assert head([level(1.0)]).tolist() == [[10 + 4 + 6, 4 + 50 + 12 + 14 + 1, 8 + 90 + 20 + 22 + 2]]


def test_four_blocks_come_first_to_last(tmp_path: Path) -> None:
    state = {"weight": torch.eye(10), "bias": torch.zeros(10)}
    save_file(state, tmp_path / "head.safetensors")
    head = LinearClassifier(in_dim=2, num_classes=10, checkpoint=tmp_path / "head.safetensors")
    # Four cls tokens, and the mean patch of the last block alone.
    assert head([level(float(i)) for i in range(1, 5)]).tolist() == [[1, 10, 2, 20, 3, 30, 4, 40, 5, 2]]


@pytest.mark.parametrize("prefix", ["head.", "head.fc.", "fc.", "linear_head.", "classifier."])
def test_it_is_found_in_a_whole_networks_file(tmp_path: Path, prefix: str) -> None:
    save_file({"blocks.0.weight": torch.ones(2), **weights(2, prefix)}, tmp_path / "net.safetensors")
    head = LinearClassifier(2, num_classes=3, layers=1, avgpool=False, checkpoint=tmp_path / "net.safetensors")
    assert head([level(1.0)]).tolist() == [[10, 2 + 30 + 1, 4 + 50 + 2]]


def test_metas_pth_is_read(tmp_path: Path) -> None:
    torch.save(weights(4), tmp_path / "dinov2_vits14_linear_head.pth")
    head = LinearClassifier(2, num_classes=3, layers=1, checkpoint=tmp_path / "dinov2_vits14_linear_head.pth")
    assert head.linear.weight[2, 3].item() == 11


def test_a_file_of_other_layers_is_refused_with_what_to_write(tmp_path: Path) -> None:
    save_file(weights(4, classes=5), tmp_path / "head.safetensors")
    with pytest.raises(CheckpointError, match=r"shape \(5, 4\).*write layers=1, avgpool=True, num_classes=5"):
        LinearClassifier(in_dim=2, checkpoint=tmp_path / "head.safetensors")
    with pytest.raises(CheckpointError, match="made for this backbone"):
        LinearClassifier(in_dim=3, checkpoint=tmp_path / "head.safetensors")


def test_a_file_without_a_classifier_is_refused(tmp_path: Path) -> None:
    save_file({"blocks.0.weight": torch.ones(2)}, tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError, match="holds no linear classifier"):
        LinearClassifier(in_dim=2, checkpoint=tmp_path / "net.safetensors")
