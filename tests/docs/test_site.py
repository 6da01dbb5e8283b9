"""The site builds from a clean state, with warnings as errors."""

import re
from pathlib import Path

import pytest
from markdown_pages import ROOT
from runs import tool


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    command = ["-q", "-E", "-W", "--keep-going", "-d", tmp_path / "doctrees", "-c", "docs", ".", tmp_path / "html"]
    built = tool("-m", "sphinx", *command)
    assert built.returncode == 0, built.stderr
    site = tmp_path / "html"
    assert 'url=docs/index.html"' in (site / "index.html").read_text()
    assert "proteus.models.distillers.Distiller" in (site / "docs/api/proteus.models.distillers.html").read_text()
    assert "step.svg" in (site / "docs/concepts.html").read_text()
    text = "".join(page.read_text() for page in (site / "docs/api").glob("*.html"))
    anchors = re.findall(r'href="\.\./reproduction\.html#([\w-]+)"', text)
    assert anchors, "the pages of the API do not link to docs/reproduction.md"
    reproduction = (site / "docs/reproduction.html").read_text()
    assert [anchor for anchor in anchors if f'id="{anchor}"' not in reproduction] == []
    for page in (ROOT / "docs").glob("*.md"):
        assert (site / "docs" / f"{page.stem}.html").is_file(), page.name
