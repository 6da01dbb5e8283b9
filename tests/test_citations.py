"""References from code, configs and documents resolve: pages and headings exist, and no document outside is cited."""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("benchmarks", "configs", "docs", "projects", "proteus", "requirements", "tests", "tools")
KINDS = {".cfg", ".in", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}

PAGE = re.compile(r"\bdocs/((?:[\w-]+/)*[\w-]+\.md)(?:#([\w-]+))?")
LINK = re.compile(r"\]\(((?:\.\./|[\w-]+/)*[\w-]+\.md)?(?:#([\w-]+))?\)")
# Sections of no public document: the paper has no appendix beyond A, and a section of A is called a section.
DEAD = re.compile(r"\b[Pp]rotocols?\W{1,8}[A-H]\.\d|(?<!app\. )\b[B-H]\.\d|\b(?:protocols|design|house)\.md")
APPENDIX = re.compile(r"\bA\.\d")


def files() -> list[Path]:
    """Text files of the repository, without what tools generate."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*")
    return sorted(path for path in found if path.suffix in KINDS and "_build" not in path.parts and path.is_file())


@cache
def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, in GitHub's and MyST's form."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ +(.+?) *$", text, re.MULTILINE)
    explicit = re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles} | set(explicit)


def line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def missing(path: Path, text: str) -> list[str]:
    """References of one file that lead nowhere, with their lines."""
    found = [(match.start(), ROOT / "docs" / match[1], match[2]) for match in PAGE.finditer(text)]
    if path.suffix == ".md" and path.is_relative_to(ROOT / "docs"):
        for match in LINK.finditer(text):
            found.append((match.start(), path.parent / match[1] if match[1] else path, match[2]))
    return [
        f"{path.relative_to(ROOT)}:{line(text, start)}: {page.name}" + (f"#{anchor}" if anchor else "")
        for start, page, anchor in found
        if not page.is_file() or (anchor and anchor not in anchors(page))
    ]


def dead(text: str) -> list[tuple[int, str]]:
    """Lines and texts of citations of sections that a reader cannot look up."""
    found = [(line(text, match.start()), match[0]) for match in DEAD.finditer(text)]
    for match in APPENDIX.finditer(text):
        if not re.search(r"\b(section|app\.)", text[max(0, match.start() - 60) : match.start()], re.IGNORECASE):
            found.append((line(text, match.start()), match[0]))
    return found


def test_pages_and_headings_that_are_cited_exist() -> None:
    assert [entry for path in files() for entry in missing(path, path.read_text())] == []


def test_a_missing_page_and_a_missing_heading_are_found() -> None:
    page = "docs/" + "reproduction.md"
    text = f"Fine: ({page}#linear-probe).\nNo such heading: ({page}#probe), and no such page: docs/" + "absent.md."
    assert missing(ROOT / "README.md", text) == ["README.md:2: reproduction.md#probe", "README.md:2: absent.md"]


def test_no_document_outside_the_repository_is_cited() -> None:
    found = {str(path.relative_to(ROOT)): dead(path.read_text()) for path in files() if path != Path(__file__)}
    assert {name: entries for name, entries in found.items() if entries} == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as released (protocols A.3)", 2),  # as a protocol, and without "section"
        ("with mean 0.5 (protocols\n            C.4), so", 1),
        ("# as protocols\n# C.4 has it", 1),
        ("the iterations of C.1", 1),
        ("the paper (section A.3), its sections 3.5 and A.11", 0),
        ("Caron et al., 2021, sec. 4.1 and app. F.1", 0),
        ("see house.md", 1),
    ],
)
def test_what_counts_as_a_dead_citation(text: str, expected: int) -> None:
    assert len(dead(text)) == expected
