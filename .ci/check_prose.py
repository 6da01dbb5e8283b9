#!/usr/bin/env python3
"""Refuse words and phrases that read as foreign or vague; part of ``make lint``.

Code, comments, docstrings, test names and pages are searched. Each rule names what to write instead.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = (".py", ".md", ".sh", ".yml", ".toml", ".cfg", "Makefile")
RULES = {
    r"tells?|told": "print, report, state, show",
    r"whose": "with, that has, or a second sentence",
    r"beside": "next to, in addition to",
    r"anew": "again",
    r"upon": "on",
    r"reckon(s|ed|ing)?": "compute, count, expect",
    r"mend(s|ed|ing)?": "fix, repair",
    r"judg(e|es|ed|ing)": "evaluate, score, check",
    r"so[ _]many": "a number, or 'at most N'",
    r"of[ _](its|their|his|her|one's)[ _]own": "its own X, a separate X, or leave it out",
    r"(?<![Tt]here[ _])(is|are)[ _](no|none)(?![ _](longer|more|less|larger|smaller|better|worse|need)|[ _]?[A-Z])": (
        "is not a X; unknown X 'y'; choose from ..."
    ),
    r"(go|goes|going|went|gone)[ _]on": "continue, resume",
    r"is[ _]had": "is enabled, is available",
    r"what[ _]it[ _]is[ _]worth": "how good it is",
}
# "is None" is Python; "whose" and the like inside longer words are other words.
PATTERN = re.compile("|".join(f"(?P<r{i}>(?<![A-Za-z])(?:{rule})(?![A-Za-z]))" for i, rule in enumerate(RULES)))
ADVICE = list(RULES.values())


def problems(text: str) -> list[tuple[int, str, str]]:
    """Find discouraged words.

    Args:
        text: A file's content.

    Returns:
        Line number from 1, the words found, and what to write instead, in order.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for match in PATTERN.finditer(line):
            rule = next(int(name[1:]) for name, value in match.groupdict().items() if value)
            found.append((number, match[0], ADVICE[rule]))
    return found


def main() -> int:
    """Print each problem as ``file:line: 'words'; write ...`` and return 1 if there are any, else 0."""
    names = sys.argv[1:] or ["."]
    listed = subprocess.run(["git", "ls-files", *names], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    count = 0
    for name in listed.splitlines():
        path = ROOT / name
        if not name.endswith(SUFFIXES) or path == Path(__file__).resolve() or not path.is_file():
            continue
        for number, words, advice in problems(path.read_text(encoding="utf-8")):
            print(f"{name}:{number}: '{words}'; write {advice}")
            count += 1
    print(f"{count} discouraged words" if count else "No discouraged words")
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main())
