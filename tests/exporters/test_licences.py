import pytest

from proteus.exporters.licences import consequence, hub_licence


@pytest.mark.parametrize(
    ("licence", "hub"),
    [
        ("Apache-2.0", "apache-2.0"),
        ("Apache License 2.0", "apache-2.0"),
        ("MIT", "mit"),
        ("CC-BY-NC 4.0", "cc-by-nc-4.0"),
        ("cc-by-nc-4.0", "cc-by-nc-4.0"),
        ("DINOv3 License", "other"),
    ],
)
def test_hub_names(licence: str, hub: str) -> None:
    assert hub_licence(licence) == hub


def test_consequences() -> None:
    assert "allows commercial use" in consequence("MIT")
    assert "forbids commercial use" in consequence("CC-BY-NC 4.0")
    assert "Read it" in consequence("DINOv3 License")
    assert consequence("") == ""
