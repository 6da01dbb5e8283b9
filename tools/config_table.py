#!/usr/bin/env python
"""Write the tables of configs/proteus/README.md from metafile.yml, or check them with --check."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "configs/proteus"
START, END = "<!-- config-tables -->", "<!-- /config-tables -->"
NAMES = {
    "imagenet": "ImageNet",
    "fine_grained": "12 fine-grained",
    "ade20k": "ADE20K",
    "ade20k_linear": "ADE20K linear",
    "nyu_rmse": "NYU",
    "nyu_rmse_linear": "NYU linear",
    "sketch": "Sketch",
    "a": "A",
    "r": "R",
    "c_mce": "C",
    "gtsrb": "GTSRB",
    "country211": "Country211",
}


def row(entry: dict[str, Any]) -> str:
    name = entry["config"]
    command = entry.get("command", f"tools/dist_train.sh configs/proteus/{name} 8")
    figures = ", ".join(
        f"{NAMES[key]} {value:.3f}" if key.startswith("nyu") else f"{NAMES[key]} {value:.1f}"
        for key, value in entry["targets"].items()
    )
    remarks = "; ".join(filter(None, [figures, entry.get("note")]))
    cells = [f"[{Path(name).stem}]({name})", f"{entry['student']} <- {entry['teacher']}", entry["paper"], remarks]
    return f"| {' | '.join(cells)} | `{command}` |"


def tables(metafile: dict[str, Any]) -> str:
    lines = []
    for section in metafile["sections"]:
        lines += [f"## {section['title']}" + (f" ({section['paper']})" if section["paper"] != "none" else ""), ""]
        lines += [
            "| config | student <- teacher | where | the paper's figures: targets | command |",
            "|---|---|---|---|---|",
        ]
        lines += [*map(row, section["configs"]), ""]
    return "\n".join(lines)


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if the tables are out of date; write nothing")
    readme = FOLDER / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    written = yaml.safe_load((FOLDER / "metafile.yml").read_text(encoding="utf-8"))
    new = f"{before}{START}\n{tables(written)}{END}{after}"
    if parser.parse_args().check:
        if new != text:
            print(f"{readme} does not match metafile.yml: run tools/config_table.py", file=sys.stderr)
        return int(new != text)
    readme.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
