"""List the configs that come with Proteus, print one, or start a config of your own from one.

Example:
  proteus config list
  proteus config show vit-s_dinov2-b
  proteus config copy vit-s_dinov2-b mine.py
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from proteus.cli.run import ToolParser, add_key_values, out_file, verb_parser


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Parse the arguments of the command, by default those of the process."""
    parser = verb_parser("config", __doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=ToolParser)
    lister = actions.add_parser("list", help="list names and what the configs are for")
    lister.add_argument("pattern", nargs="?", default="*", help="such as 'proteus/*' (default: all)")
    lister.add_argument("--paths", action="store_true", help="print paths for _base_ instead of names")
    show = actions.add_parser("show", help="print a config with all its bases merged in")
    show.add_argument("name", help="name of a config, or a file")
    add_key_values(show)
    copy = actions.add_parser("copy", help="write a new config that has one of these as its base")
    copy.add_argument("name", help="name of a config")
    copy.add_argument("file", type=out_file, help="Python file to write, such as mine.py")
    return parser.parse_args(argv)


def main(args: Namespace) -> int:
    """Run the command, and return its exit status."""
    if args.action == "list":
        print("\n".join(format_list(args.pattern, args.paths)))
    elif args.action == "show":
        from proteus.config.load import load_config

        print(load_config(args.name, args.cfg_options).pretty_text.rstrip())
    else:
        copy_config(args.name, args.file)
        print(f"{args.file}: edit it, then run: proteus check {args.file}")
    return 0


def format_list(pattern: str = "*", paths: bool = False) -> list[str]:
    """Return lines for the terminal: folders, and below each its configs with the first sentence of their comments.

    Args:
        pattern: Shell pattern of names, or of paths below ``configs``.
        paths: Write ``proteus::PATH``, as in ``_base_``, instead of the shortest name.

    Raises:
        UserError: No config fits the pattern.
    """
    from fnmatch import fnmatch

    from proteus.config.locate import config_names, configs_root
    from proteus.structures import UserError

    folders: dict[str, list[tuple[str, str]]] = {}
    for name, file in config_names().items():
        path = file.relative_to(configs_root())
        if any(fnmatch(word, pattern) for word in (path.as_posix(), path.with_suffix("").as_posix(), name)):
            row = (f"proteus::{path.as_posix()}" if paths else name, first_sentence(file))
            folders.setdefault(path.parent.as_posix(), []).append(row)
    if not folders:
        raise UserError(f"no config fits {pattern!r}; `proteus config list` prints all names")
    lines = []
    for folder, rows in folders.items():
        width = max(len(name) for name, _ in rows)
        lines += [folder, *(f"  {name:<{width}}  {text}".rstrip() for name, text in rows), ""]
    return lines[:-1]


def first_sentence(file: Path, width: int = 100) -> str:
    """Return the first sentence of the comment at the top of a config, cut to ``width`` characters."""
    import re
    from itertools import takewhile
    from textwrap import shorten

    comment = takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    text = " ".join(line.removeprefix("#").strip() for line in comment)
    text = re.sub(r" \(docs/[^)]*\)", "", text)
    return shorten(re.split(r"(?<=[\w)\"])\. ", f"{text} ")[0], width, placeholder="...")


def copy_config(name: str, file: Path) -> None:
    """Write a Python config with a base that comes with Proteus, and its most common keys as comments.

    Args:
        name: Name of a config, as for :func:`~proteus.config.locate.locate_config`.
        file: File to write.

    Raises:
        ConfigError: The config does not exist, or does not come with Proteus.
        UserError: The file exists, or does not end in ``.py``.
    """
    from proteus.config.load import load_config
    from proteus.config.locate import configs_root, locate_config
    from proteus.structures import ConfigError, UserError
    from proteus.utils.atomic import write_text

    base = locate_config(name).resolve()
    if configs_root() not in base.parents:
        raise ConfigError(["is not a config that comes with Proteus; copy the file itself"], name)
    if file.suffix != ".py":
        raise UserError(f"'{file}': a config is a Python file; name it {file.with_suffix('.py').name}")
    if file.exists():
        raise UserError(f"'{file}' exists; name a new file")
    cfg = load_config(base)
    loader = cfg.get("train_dataloader") or {}
    root = (loader.get("dataset") or {}).get("data_root")
    dataset = f", dataset=dict(data_root={root!r})" if isinstance(root, str) else ""
    lines = [
        f"# Settings of {base.name} stay as they are unless they are written here; `proteus config show {file.name}`",
        "# prints all. Remove the # of a line to change its value.",
        f'_base_ = "proteus::{base.relative_to(configs_root()).as_posix()}"',
        "",
    ]
    if "batch_size" in loader:
        lines.append(f"# train_dataloader = dict(batch_size={loader['batch_size']}{dataset})")
    checkpoint = (((cfg.get("model") or {}).get("teacher") or {}).get("backbone") or {}).get("checkpoint")
    if checkpoint is not None:
        lines.append(f"# model = dict(teacher=dict(backbone=dict(checkpoint={checkpoint!r})))")
    if cfg.get("train_cfg"):
        length = "max_iters" if "max_iters" in cfg.train_cfg else "max_epochs"
        lines.append(f"# train_cfg = dict({length}={cfg.train_cfg.get(length)})")
        lines.append(f'# work_dir = "work_dirs/{file.stem}"')
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "\n".join(lines).rstrip() + "\n")
