"""The Markdown pages of the repository, and what they hold: code blocks, inline code, links and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "benchmarks/README.md", "configs/*/README.md", "projects/*/README.md")
    for path in ROOT.glob(pattern)
)
GUIDES = [path for path in PAGES if path.parent in (ROOT, ROOT / "docs")]
_FILE = re.compile(r"# ([\w./-]+\.py)\n")


@dataclass(frozen=True)
class Block:
    """A fenced code block.

    Attributes:
        page: File of the page.
        line: Line of the block's first line, from 1.
        language: Word after the fence.
        text: Content.
    """

    page: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """Path that a Python block is to be saved under: the comment in its first line."""
        match = _FILE.match(self.text)
        return match[1] if match else None

    def __str__(self) -> str:
        return f"{name(self.page)}:{self.line}"


def name(page: Path) -> str:
    """Return a page's path below the root."""
    return page.relative_to(ROOT).as_posix()


@cache
def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return a page's code blocks in some languages."""
    found = (Block(page, t.map[0] + 2, t.info.strip(), t.content) for t in _tokens(page) if t.type == "fence" and t.map)
    return [block for block in found if block.language in languages]


def written_files() -> set[str]:
    """Return the paths that Python blocks of any page are to be saved under."""
    return {block.file for page in PAGES for block in blocks(page, "python") if block.file}


def _inline(page: Path) -> Iterator[tuple[int, Token]]:
    line = 1
    for token in _tokens(page):
        line = token.map[0] + 1 if token.map else line
        for child in token.children or []:
            yield line, child


def inline_code(page: Path) -> list[tuple[int, str]]:
    """Return the lines and texts of a page's inline code."""
    return [(line, token.content) for line, token in _inline(page) if token.type == "code_inline"]


def targets(page: Path) -> list[tuple[int, str]]:
    """Return the lines and targets of a page's links and images."""
    found = []
    for line, token in _inline(page):
        target = token.attrs.get("href") or token.attrs.get("src")
        if target:
            found.append((line, str(target)))
    return found


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    tokens = _tokens(page)
    titles = []
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            titles.append("".join(child.content for child in token.children or []))
    explicit = re.findall(r"^\(([\w-]+)\)=$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles} | set(explicit)
