"""Families of timm's models as students and teachers, and the tables of docs/models.md that list them."""

from __future__ import annotations

from pathlib import Path

import pytest
from model_families import FAMILIES, Family, format_row, student_row, teacher_row, written_rows

REMEDY = "docs/models.md is out of date: run python tests/model_families.py"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_student_steps_masks_exports_and_reloads(family: Family, tmp_path: Path) -> None:
    assert format_row(student_row(family, tmp_path)) in written_rows("students"), REMEDY


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_teacher_gives_timms_features_with_its_own_statistics(family: Family) -> None:
    assert format_row(teacher_row(family)) in written_rows("teachers"), REMEDY


def test_tables_list_these_families() -> None:
    names = [family.name for family in FAMILIES]
    for kind in ("students", "teachers"):
        assert [row.split("|")[1].strip() for row in written_rows(kind)] == names, REMEDY
