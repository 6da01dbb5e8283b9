from __future__ import annotations

from pathlib import Path

import pytest

from proteus.apis import load_config
from proteus.config.suggestions import near_file, nearest, nearest_file, not_available
from proteus.structures import ConfigError


@pytest.mark.parametrize(
    ("key", "name", "words"),
    [
        ("train_dataloader.dataset.type", "KITTIDataset", "type='NYUDepth'"),
        ("model.decode_head.type", "BTSHead", "DPTDepthHead"),
        ("model.decode_head.type", "AdabinsHead", "DPTDepthHead"),
        ("model.decode_head.type", "BinsFormerDecodeHead", "DPTDepthHead"),
    ],
)
def test_parts_of_the_depth_toolbox_are_refused_with_an_alternative(
    tmp_path: Path, key: str, name: str, words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config("configs/nyu/vit-s_dpt.py", {key: name})
    text = str(refused.value)
    assert f"'{name}' is not available in Proteus: " in text
    assert words in text
    assert "did you mean" not in next(line for line in text.splitlines() if "not available" in line)


def test_other_names_get_the_nearest_name() -> None:
    assert not_available("DPTDepthHea") is None
    assert not_available("NYUDeph") is None


def test_nearest_ignores_case_and_scope() -> None:
    assert nearest("vit", ["ViT", "ResNet"]) == ["ViT"]
    assert nearest("proteus.VitT", ["mmseg.ViT", "Other"]) == ["mmseg.ViT"]
    assert nearest("a_b.pyy", ["a_b.py", "c.py"], full_name=True) == ["a_b.py"]
    assert nearest("zzz", ["ViT"]) == []


def test_the_nearest_file(tmp_path: Path) -> None:
    (tmp_path / "epoch_10.pth").touch()
    assert nearest_file(tmp_path / "epoch_1O.pth") == tmp_path / "epoch_10.pth"
    assert near_file(tmp_path / "epoch_1O.pth") == f"; did you mean '{tmp_path / 'epoch_10.pth'}'?"
    assert nearest_file(tmp_path / "other.txt") is None
    assert near_file(tmp_path / "other.txt") == f"; no file in '{tmp_path}' has a similar name"
    assert nearest_file(tmp_path / "absent/epoch_10.pth") is None
    assert near_file(tmp_path / "absent/x.pth") == f"; the folder '{tmp_path / 'absent'}' does not exist"
