from pathlib import Path

import pytest

from proteus.evaluation.protocols import ProtocolResult
from proteus.evaluation.report import table
from proteus.evaluation.targets import peers, published_line, targets

ROOT = Path(__file__).parents[2]


def test_peers_are_apart_from_the_papers_scores() -> None:
    small = {row["method"]: row for row in peers(384)}
    assert small["DINOv3"]["ade20k_linear-dinov3"] == {"mIoU": 47.0}
    assert small["DINOv3"]["nyu_linear-dinov3"] == {"rmse": 0.403}
    assert small["PE-Spatial"]["ade20k_linear-pe"] == {"mIoU": 37.5}
    assert all("https://" in row["peer"] for width in (192, 384, 768) for row in peers(width))
    assert {row["method"] for row in targets(384)} == {"DINOv2", "Proteus"}
    assert {row["method"]: row["ade20k_linear"]["mIoU"] for row in targets(384)} == {"DINOv2": 45.7, "Proteus": 41.8}
    assert peers(100) == []


def test_a_report_has_a_column_for_a_peer_with_the_same_protocol() -> None:
    result = ProtocolResult("ADE20K", "%", rows={"mIoU": {"validation": 40.0}})
    head, _, row = table("ade20k_linear-dinov3", result, targets(384) + peers(384))
    assert head == "|  | validation | DINOv3 ViT-S/16 (peer) |"
    assert row == "| mIoU | 40.00 | 47.00 |"


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ("configs/ade20k/vit-s_linear-dinov3.py", "mIoU 47 by DINOv3 ViT-S/16 (peer)"),
        ("configs/nyu/vit-b_linear-dinov3.py", "rmse 0.373 by DINOv3 ViT-B/16 (peer)"),
        (
            "configs/ade20k/vit-s_linear.py",
            "mIoU 45.7 by DINOv2 ViT-S/14 (paper); mIoU 41.8 by Proteus ViT-S/14 (paper)",
        ),
        ("configs/nyu/vit-ti_dpt.py", "rmse 0.423 by Proteus ViT-Ti/14 (paper)"),
    ],
)
def test_the_line_after_a_dense_test(config: str, line: str) -> None:
    assert (ROOT / config).is_file()
    assert published_line(config) == f"published with these settings, not measured here: {line}"


def test_no_line_without_a_score() -> None:
    assert published_line("configs/ade20k/vit-s_linear-dinov2.py") == ""
    assert published_line("mine/vit-s_linear.py") == ""
    assert published_line("") == ""
