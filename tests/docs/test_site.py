"""The site builds from a clean state, with warnings as errors."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_pages import ROOT


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-E", "-W", "--keep-going", "-d", str(tmp_path / "doctrees")]
    built = subprocess.run(
        [*command, "-c", "docs", ".", str(tmp_path / "html")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
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
