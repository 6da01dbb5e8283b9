"""Links, pictures and paths in the pages lead somewhere."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_pages import PAGES, ROOT, anchors, blocks, inline_code, name, targets, written_files

# Paths below the root in code: without placeholders, patterns or folders of results.
PATH = re.compile(
    r"(?<![\w./-])(?:benchmarks|configs|docs|projects|proteus|requirements|tests|tools)/[\w./+-]*[\w/](?![\w*<{])"
)
# Files of other repositories, of builds, and of examples that a reader writes.
ELSEWHERE = {
    "configs/dpt/dpt_vit-b16_nyu.py",
    "docs/_build/html",
    "projects/your_project",
    "tools/model_converters/proteus2mmseg.py",
}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    dead = []
    for line, target in targets(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        file = (page.parent / path) if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            dead.append(f"{name(page)}:{line}: {target}")
    assert dead == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_in_code_exist(page: Path) -> None:
    texts = [*inline_code(page), *((block.line, block.text) for block in blocks(page, "bash", "python", "text", ""))]
    known = written_files() | ELSEWHERE
    missing = [
        f"{name(page)}:{line}: {match[0]}"
        for line, text in texts
        for match in PATH.finditer(text)
        if match[0] not in known
        and not any((folder / match[0]).exists() for folder in (ROOT, page.parent, ROOT / "configs"))
    ]
    assert missing == []
