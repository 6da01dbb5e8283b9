"""The configs of protocols, and the README's table of data sets."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.registry import init_default_scope

from proteus.apis import load_config
from proteus.apis.evaluate import CONFIGS
from proteus.datasets.fine_grained import fine_grained_sets
from proteus.evaluation.protocols import FineGrained, SetProtocol
from proteus.registry import PROTOCOLS

FOLDER = Path(__file__).parents[2] / "configs"
METRICS = {"top1": "top-1", "mean_per_class": "mean per class", "map11": "11-point mAP"}


@pytest.mark.parametrize("file", [*CONFIGS.values(), "fine_grained/all_released.py"])
def test_protocols_build_from_their_configs(file: str) -> None:
    init_default_scope("proteus")
    protocol = PROTOCOLS.build(load_config(FOLDER / file).protocol)
    if isinstance(protocol, SetProtocol):
        assert protocol.sets
        assert [step["type"] for step in protocol.pipeline][-2:] == ["ToTensor", "PackInputs"]


def test_fine_grained_sets_are_in_the_paper_order() -> None:
    """Order, transforms and statistics of docs/reproduction.md#fine-grained-classification."""
    cfg = load_config(FOLDER / "fine_grained/all.py").protocol
    assert {name: config.type for name, config in cfg.sets.items()} == {
        name: kind.__name__ for name, kind in fine_grained_sets().items()
    }
    assert (cfg.pipeline[1].scale, cfg.pipeline[2].crop_size) == (224, 224)
    protocol = PROTOCOLS.build(cfg)
    assert isinstance(protocol, FineGrained)
    assert (protocol.mean, protocol.std) == (
        (0.48145466, 0.4578275, 0.40821073),
        (0.26862954, 0.26130258, 0.27577711),
    )


def test_table_of_data_sets_matches_the_classes() -> None:
    text = (FOLDER / "fine_grained/README.md").read_text(encoding="utf-8")
    rows = text.split("<!-- sets -->")[1].split("<!-- /sets -->")[0].strip().splitlines()[2:]
    assert rows == [
        f"| {name} | `{kind.folder}` | {kind.source} | {kind.num_classes} | {METRICS[kind.metric]} |"
        for name, kind in fine_grained_sets().items()
    ]
