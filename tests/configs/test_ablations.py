"""The ablations' configs, compared with the main recipe."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from proteus.apis import load_config

FOLDER = Path(__file__).parents[2] / "configs/proteus"
MAIN = load_config(FOLDER / "vit-s_dinov2-b.py")


@cache
def ablation(name: str) -> Config:
    return load_config(FOLDER / f"ablations/{name}.py")


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Return every leaf of a config by its dotted key, without ``None``."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        items = {str(number): item for number, item in enumerate(value)}.items()
    else:
        return {} if value is None else {key: value}
    return {k: v for name, item in items for k, v in flat(item, f"{key}.{name}" if key else name).items()}


def changed(cfg: Config) -> set[str]:
    """Return the keys of model, data and optimizer that differ from the main recipe."""
    parts = [{key: dict(one)[key] for key in ("model", "train_dataloader", "optim_wrapper")} for one in (cfg, MAIN)]
    one, other = map(flat, parts)
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}


def test_objectives_match_the_name() -> None:
    for name, names in (("token", {"token"}), ("feature", {"feature"}), ("token-feature", {"token", "feature"})):
        cfg = ablation(f"vit-s_dinov2-b_{name}")
        assert {key for key, value in cfg.model.objectives.items() if value} == names
        assert all(key.startswith("model.objectives.") for key in changed(cfg))
    assert ablation("vit-s_dinov2-b_feature").model.objectives.feature.cls_term is None


@pytest.mark.parametrize(
    ("name", "loss", "alpha"),
    [
        ("hard-logits", "HardLogitsLoss", 1.0),
        ("soft-logits", "SoftLogitsLoss", 1.0),
        ("hard-logits-ce", "HardLogitsLoss", 0.5),
        ("soft-logits-ce", "SoftLogitsLoss", 0.5),
    ],
)
def test_logits(name: str, loss: str, alpha: float) -> None:
    cfg = ablation(f"vit-s_dinov2-b_{name}")
    assert set(cfg.model.objectives) == {"logits"}
    logits = cfg.model.objectives.logits
    assert (logits.loss.type, logits.alpha, "label_loss" in logits) == (loss, alpha, alpha < 1)
    assert {key: value for key, value in cfg.model.student.items() if key != "mask_token"} == {
        key: value for key, value in MAIN.model.student.items() if key != "mask_token"
    }
    assert cfg.model.teacher.backbone == MAIN.model.teacher.backbone
    steps = [step.type for step in cfg.train_dataloader.dataset.pipeline]
    assert steps == [step.type for step in MAIN.train_pipeline if step.type != "UniformMask"]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("vit-s_dinov2-b_inherit", {"model.init_from.type", "model.init_from.checkpoint"}),
        ("vit-s_dinov2-l", {"model.teacher.backbone.arch", "model.teacher.backbone.checkpoint"}),
        ("vit-s_dinov2-g", {"model.teacher.backbone.arch", "model.teacher.backbone.checkpoint"}),
        (
            "vit-s_dinov2-b_block-mask",
            {f"train_dataloader.dataset.pipeline.5.{key}" for key in ("type", "ratio")},
        ),
    ],
)
def test_ablations_change_only_their_keys(name: str, keys: set[str]) -> None:
    assert changed(ablation(name)) == keys


def test_projectors_change_only_the_head() -> None:
    token = changed(ablation("vit-s_dinov2-b_token"))
    for name, layers in (("linear-gelu", ["linear", "gelu"]), ("gelu-linear", ["gelu", "linear"])):
        cfg = ablation(f"vit-s_dinov2-b_{name}")
        assert list(cfg.model.objectives.token.head.layers) == layers
        assert changed(cfg) - token == {"model.objectives.token.head.layers"}


@pytest.mark.parametrize("name", ["deit-ti", "vit-ti"])
def test_tables_11_and_12_differ_in_teacher_and_initialisation(name: str) -> None:
    distilled = {"deit-ti": "deit-ti_deit-s", "vit-ti": "vit-ti_dinov2-s"}[name] + "_hard-logits-ce"
    rows = [ablation(row) for row in (f"{name}_labels", f"{name}_labels_inherit", distilled, f"{distilled}_inherit")]
    assert [row.model.teacher.type for row in rows] == ["NoTeacher", "NoTeacher", "Teacher", "Teacher"]
    assert ["init_from" in row.model for row in rows] == [False, True, False, True]
    assert all(row.model.student == rows[0].model.student for row in rows)
    assert all(row.train_dataloader == rows[0].train_dataloader for row in rows)
    # Two rows are initialised from their teacher.
    assert rows[3].model.init_from.checkpoint == rows[3].model.teacher.backbone.checkpoint
    assert rows[1].model.init_from == rows[3].model.init_from
