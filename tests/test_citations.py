"""References from code, configs and documents resolve."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("benchmarks", "configs", "docs", "projects", "proteus", "requirements", "tests", "tools")
KINDS = {".cfg", ".in", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}

PAGE = re.compile(r"\bdocs/((?:[\w-]+/)*[\w-]+\.md)(?:#([\w-]+))?")
LINK = re.compile(r"\]\(((?:\.\./|[\w-]+/)*[\w-]+\.md)?(?:#([\w-]+))?\)")


def files() -> list[Path]:
    """Text files of the repository, without what tools generate."""
    found = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*")
    return sorted(path for path in found if path.suffix in KINDS and "_build" not in path.parts and path.is_file())


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MyST make them."""
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


def test_pages_and_headings_that_are_cited_exist() -> None:
    assert [entry for path in files() for entry in missing(path, path.read_text())] == []


def test_a_missing_page_and_a_missing_heading_are_found() -> None:
    page = "docs/" + "reproduction.md"
    text = f"Fine: ({page}#linear-probe).\nNo such heading: ({page}#probe), and no such page: docs/" + "absent.md."
    assert missing(ROOT / "README.md", text) == ["README.md:2: reproduction.md#probe", "README.md:2: absent.md"]
