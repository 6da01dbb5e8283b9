from __future__ import annotations

from pathlib import Path

import pytest

from proteus.apis import load_config
from proteus.config.load import ConfigError
from proteus.config.unsupported import not_available


@pytest.mark.parametrize(
    ("key", "name", "words"),
    [
        ("train_dataloader.dataset.type", "KITTIDataset", "type='NYUDepth'"),
        ("model.decode_head.type", "BTSHead", "DPTDepthHead"),
        ("model.decode_head.type", "AdabinsHead", "DPTDepthHead"),
        ("model.decode_head.type", "BinsFormerDecodeHead", "DPTDepthHead"),
    ],
)
def test_a_config_that_names_them_is_refused_with_an_alternative(
    tmp_path: Path, key: str, name: str, words: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config("configs/nyu/vit-s_dpt.py", {key: name})
    text = str(refused.value)
    assert f"'{name}' is not available in Proteus: " in text
    assert words in text
    assert "did you mean" not in next(line for line in text.splitlines() if "not available" in line)


def test_other_names_keep_their_hints() -> None:
    assert not_available("DPTDepthHea") is None
    assert not_available("NYUDeph") is None
