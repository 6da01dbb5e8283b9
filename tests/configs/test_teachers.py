"""Configs of teachers that came after the paper, against the records of these models."""

from pathlib import Path

import pytest

from proteus.apis import load_config
from proteus.models.zoo.known import known_teachers

FOLDER = Path(__file__).parents[2] / "configs/proteus/teachers"
RECORDS = {file: record for record in known_teachers().values() for file in record.files}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_model_statistics_and_licence_are_those_of_the_record(path: Path) -> None:
    cfg = load_config(path)
    teacher = cfg.model.teacher
    backbone = dict(teacher.backbone)
    record = RECORDS[Path(backbone["checkpoint"]).name]
    mean, std = (teacher.get(key, default) for key, default in zip(("mean", "std"), IMAGENET, strict=True))
    assert (mean, std) == (record.mean, record.std)
    assert {key: backbone[key] for key in record.config} == record.config
    title, _, licence = cfg.default_hooks.export.teacher.partition(" (")
    assert record.title.startswith(f"{title} (")
    assert licence.endswith(f", {record.licence})")
