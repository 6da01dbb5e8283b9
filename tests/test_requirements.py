"""What ``requirements/`` declares, and what ``constraints.txt`` pins."""

from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).resolve().parent.parent / "requirements"
LISTS = sorted(path for path in FOLDER.glob("*.txt") if path.name != "constraints.txt")


def read(path: Path) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line]


PINS = {canonicalize_name(pin.name): pin for pin in read(FOLDER / "constraints.txt")}


@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_everything_declared_is_pinned_to_a_version_it_allows(path: Path) -> None:
    for requirement in read(path):
        pin = PINS.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{path.name}: {requirement.name} has no tested version in constraints.txt"
        (version,) = [part.version for part in pin.specifier]
        assert requirement.specifier.contains(version), f"{path.name} asks for {requirement}, tested is {version}"


def test_a_constraint_is_one_exact_version_and_stands_once() -> None:
    pins = read(FOLDER / "constraints.txt")
    names = [canonicalize_name(pin.name) for pin in pins]
    assert sorted(names) == sorted(set(names))
    assert [str(pin) for pin in pins if [part.operator for part in pin.specifier] != ["=="]] == []
