#!/usr/bin/env python
"""Evaluate student or teacher zero-shot on labelled sets and on ImageNet's variants; write a table for each.

python -m projects.dime_fm.zero_shot --config CONFIG --checkpoint work_dirs/NAME/iter_781200.pth --data-root data
"""

from __future__ import annotations

from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from projects.dime_fm.zero_shot_protocols import TextBench
from proteus.apis import ConfigError, load_config
from proteus.apis.evaluate import format_result
from proteus.checkpoints import load_strictly, read_state_dict
from proteus.cli.run import KeyValues, ToolParser, device, integer, out_folder, positive_int, run
from proteus.config.build_errors import as_config_error
from proteus.config.check_files import check_files
from proteus.evaluation.protocols import ProtocolResult
from proteus.evaluation.report import table
from proteus.registry import MODELS, PROTOCOLS
from proteus.utils import write_json, write_text

CONFIGS = Path(__file__).with_name("configs") / "zero_shot"
NAMES = ("sets", "robustness")


def load_model(cfg: Config, checkpoint: str | None, device: str | None = None) -> Any:
    """Build a config's model with a training checkpoint's weights, in eval mode.

    Raises:
        ConfigError: The config is invalid, or its model is not an unpaired distiller.
        CheckpointError: The checkpoint cannot be read, or does not match the model.
    """
    check_files(cfg, ("model",))
    init_default_scope(cfg.get("default_scope", "proteus"))
    if str(cfg.model.type).rpartition(".")[2] != "UnpairedDistiller":
        raise ConfigError([f"model.type={cfg.model.type!r}: expected UnpairedDistiller"], str(cfg.filename))
    with as_config_error(str(cfg.filename)):
        model = MODELS.build(cfg.model)
    if checkpoint is not None:
        load_strictly(model, read_state_dict(checkpoint), checkpoint)
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()


def of_folders(folders: list[str]) -> dict[str, dict[str, Any]]:
    """Return configs for a user's sets: ``DIR/test/CLASS/IMAGE`` with ``DIR/train``, or ``DIR/CLASS/IMAGE``.

    Raises:
        FileNotFoundError: A folder does not exist.
        ConfigError: Two folders have the same name.
    """
    sets: dict[str, dict[str, Any]] = {}
    for folder in folders:
        path = Path(folder).resolve()
        if not path.is_dir():
            raise FileNotFoundError(f"--folders {folder}: no such folder")
        if path.name in sets:
            raise ConfigError([f"two folders have the same name: {path.name}"], "--folders")
        kind = "ClassFolders" if (path / "train").is_dir() and (path / "test").is_dir() else "LabelledFolder"
        sets[path.name] = {"type": kind, "data_root": str(path)}
    return sets


def write(out: Path, about: Mapping[str, Any], outcomes: Mapping[str, ProtocolResult]) -> Path:
    """Write ``zero_shot.json`` and ``zero_shot.md``; return the latter's path."""
    out.mkdir(parents=True, exist_ok=True)
    found = {name: outcome.as_dict() for name, outcome in outcomes.items()}
    write_json(out / "zero_shot.json", {**about, "protocols": found}, indent=1)
    text = [f"# Zero-shot: {about['config']}", "", f"Student: {about['checkpoint'] or 'not evaluated'}", ""]
    for name, outcome in outcomes.items():
        text += [f"## {outcome.title} ({outcome.unit})", "", *(table(name, outcome, []) if outcome.rows else []), ""]
        text += [f"- failed: {title}: {' '.join(why.split())}" for title, why in outcome.failed.items()]
        text += [f"- not on disk: {title}: {where}" for title, where in outcome.missing.items()]
        text += [""]
    write_text(out / "zero_shot.md", "\n".join(text))
    return out / "zero_shot.md"


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ToolParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="config that the student was trained with")
    parser.add_argument(
        "--checkpoint", help="its training checkpoint, iter_781200.pth; file.pth#ema for the moving average"
    )
    parser.add_argument("--data-root", default="data", type=Path, help="folder of the data sets (default: data)")
    parser.add_argument(
        "--protocols",
        nargs="+",
        action="extend",
        default=list(NAMES),
        help=f"{', '.join(NAMES)}, or config files (default: both)",
    )
    parser.add_argument(
        "--sets", nargs="+", action="extend", default=[], metavar="NAME", help="evaluate only these sets"
    )
    parser.add_argument(
        "--folders",
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="evaluate on these folders (DIR/test/CLASS, or DIR/CLASS)",
    )
    parser.add_argument("--names", type=Path, metavar="DIR", help="folder of SET.txt with class names, one per line")
    parser.add_argument("--of", nargs="+", action="extend", choices=["student", "teacher"], default=["student"])
    parser.add_argument("--out", type=out_folder, help="folder of the table (default: work_dirs/zero_shot/<config>)")
    parser.add_argument("--batch-size", type=positive_int, default=64, help="images per batch (default: %(default)s)")
    parser.add_argument(
        "--workers", type=integer(0, 512), default=2, help="processes that read images (default: %(default)s)"
    )
    parser.add_argument("--device", type=device, help="cuda, cuda:1, cpu (default: a GPU if there is one)")
    parser.add_argument(
        "--cfg-options", nargs="+", action=KeyValues, metavar="KEY=VALUE", help="override keys of --config"
    )
    return parser.parse_args()


def main(args: Namespace) -> int:
    """Evaluate and write the tables; return 1 if a set failed."""
    if "student" in args.of and args.checkpoint is None:
        raise ConfigError(["missing; pass the student's checkpoint, or --of teacher"], "--checkpoint")
    if not args.data_root.is_dir() and not args.folders:
        raise FileNotFoundError(f"--data-root {args.data_root}: no such folder")
    cfg = load_config(args.config, args.cfg_options)
    if "val_pipeline" not in cfg:
        raise ConfigError(["has no 'val_pipeline', which is needed to load the images"], args.config)
    protocols = {name: _protocol(name) for name in (["sets"] if args.folders else args.protocols)}
    if args.folders:
        protocols["sets"].protocol.sets = of_folders(args.folders)
    _check_names(args.sets, protocols)
    model = load_model(cfg, args.checkpoint, args.device)
    outcomes = {}
    for name, protocol in protocols.items():
        bench = TextBench(
            model,
            args.of,
            cfg.val_pipeline,
            args.data_root.resolve(),
            Path(protocol.filename).parent,
            args.sets,
            args.names,
            args.batch_size,
            args.workers,
        )
        outcomes[name] = PROTOCOLS.build(protocol.protocol).run(bench)
        print("\n".join([f"\n== {outcomes[name].title}", *format_result(outcomes[name])]), flush=True)
    out = args.out or Path("work_dirs/zero_shot") / Path(args.config).stem
    about = {"config": args.config, "checkpoint": args.checkpoint, "of": args.of}
    print(f"\n{write(out, about, outcomes)}, zero_shot.json")
    return 1 if any(outcome.failed for outcome in outcomes.values()) else 0


def _protocol(name: str) -> Config:
    if name not in NAMES and not name.endswith(".py"):
        raise ConfigError(
            [f"unknown protocol {name!r}; choose from {', '.join(NAMES)}, or pass a config file"], "--protocols"
        )
    cfg = load_config(CONFIGS / f"{name}.py" if name in NAMES else name)
    if "protocol" not in cfg:
        raise ConfigError(["not an evaluation config (missing 'protocol')"], name)
    return cfg


def _check_names(names: list[str], protocols: Mapping[str, Config]) -> None:
    known = {
        name: None
        for protocol in protocols.values()
        for key in ("sets", "tests")
        for name in protocol.protocol.get(key) or {}
    }
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError([f"unknown set {unknown[0]!r}; choose from {', '.join(known)}"], "--sets")


if __name__ == "__main__":
    run(main, parse_args())
