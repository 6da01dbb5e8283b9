#!/usr/bin/env python
"""Compute a teacher's embeddings of a config's sentences and store them on disk; re-run to resume.

    python -m projects.dime_fm.cache_sentences CONFIG

Writes one cache for each folder that a data loader's ``sentences.cache`` names. To use another folder:

    --cfg-options train_dataloader.dataset.sentences.cache=DIR val_dataloader.dataset.sentences.cache=DIR
"""

from __future__ import annotations

import sys
from argparse import Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from tqdm import tqdm

from projects.dime_fm.sentence_cache import SentenceIndex, is_complete, read_index, write_index, write_texts
from projects.dime_fm.sentences import SentenceSet
from proteus.apis import ConfigError, load_config
from proteus.cli.run import ToolParser, add_key_values, device, positive_int, run
from proteus.config.build_errors import as_config_error
from proteus.config.check_files import check_files
from proteus.datasets.teacher_cache import StaleCacheError, differences
from proteus.registry import DATASETS, MODELS
from proteus.utils import exclusive

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_FILE_BYTES = 256e6


def wanted(cfg: Config) -> dict[str, dict[str, Any]]:
    """Return the config of the sentences for each cache folder that a config's loaders read."""
    found = {}
    for loader in LOADERS:
        for config in _sentences((cfg.get(loader) or {}).get("dataset") or {}):
            if config.get("cache"):
                found[str(config["cache"])] = {**config, "cache": None, "split": "all"}
    return found


def build(cfg: Config, device: str | None = None, batch_size: int = 256) -> list[Path]:
    """Write the missing files of the caches that a config reads.

    Files are written atomically, so an interrupted build loses at most the current file.

    Args:
        cfg: The config.
        device: Device of the text tower; by default a GPU if there is one.
        batch_size: Sentences per batch.

    Returns:
        The caches' folders.

    Raises:
        ConfigError: The config reads no cache, or is invalid.
        StaleCacheError: A folder has a cache of other sentences or of another teacher.
        LockedError: Another process is building a cache in a folder.
    """
    caches = wanted(cfg)
    if not caches:
        text = "no data loader's sentences have a 'cache': write sentences=dict(..., cache='work_dirs/cache/NAME')"
        raise ConfigError([text], str(cfg.filename))
    check_files(cfg, ("model", "train_dataloader"))
    init_default_scope(cfg.get("default_scope", "proteus"))
    with as_config_error(str(cfg.filename)):
        teacher = MODELS.build(cfg.model.teacher)
        sets = {folder: DATASETS.build(config) for folder, config in caches.items()}
    teacher.to_device(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    for name, sentences in sets.items():
        folder = Path(name).expanduser()
        # A multiple of the batch size, so that batches do not cross files.
        rows = max(int(_FILE_BYTES / 4 / teacher.embed_dim) // batch_size, 1) * batch_size
        index = SentenceIndex(teacher.text_identity(), sentences.identity(), len(sentences), teacher.embed_dim, rows)
        with exclusive(folder, "building a cache of sentences"):
            _write(folder, _continued(folder, index), sentences, teacher, batch_size)
    return [Path(folder) for folder in caches]


def _continued(folder: Path, index: SentenceIndex) -> SentenceIndex:
    there = read_index(folder)
    if there is None:
        return index
    different = [
        *differences(there.teacher, index.teacher, "teacher"),
        *differences(there.sentences, index.sentences, "sentences"),
    ]
    if different:
        text = [f"{folder} holds a cache of other data:", *different, "name another folder, or remove this one"]
        raise StaleCacheError("\n  ".join(text))
    return there


def _write(folder: Path, index: SentenceIndex, sentences: SentenceSet, teacher: Any, batch_size: int) -> None:
    missing = {name: rows for name, rows in index.files() if not is_complete(folder, index, name)}
    index.complete = not missing
    write_index(folder, index)
    device = teacher.encoder.logit_scale.device
    with tqdm(
        total=sum(map(len, missing.values())),
        desc=f"sentences, {folder.name}",
        unit="sentence",
        # Update rarely if the output goes to a log file.
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
    ) as bar:
        for name, rows in missing.items():
            parts = []
            for start in range(rows.start, rows.stop, batch_size):
                tokens = sentences.tokens(range(start, min(start + batch_size, rows.stop)))
                parts.append(teacher.encode_texts(tokens.to(device)).cpu())
                bar.update(len(tokens))
            write_texts(folder, name, torch.cat(parts).numpy())
    index.complete = True
    write_index(folder, index)


def _sentences(dataset: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if isinstance(dataset.get("sentences"), Mapping):
        yield dict(dataset["sentences"])
    if isinstance(dataset.get("dataset"), Mapping):
        yield from _sentences(dataset["dataset"])


def parse_args() -> Namespace:
    """Read the command line."""
    parser = ToolParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file, such as projects/dime_fm/configs/vit-b32_clip-l14.py")
    add_key_values(parser)
    parser.add_argument("--device", type=device, help="cuda, cuda:1, cpu (default: a GPU if there is one)")
    parser.add_argument(
        "--batch-size", type=positive_int, default=256, metavar="N", help="sentences per batch (default: 256)"
    )
    return parser.parse_args()


def main(args: Namespace) -> int:
    """Build the caches."""
    for folder in build(load_config(args.config, args.cfg_options), args.device, args.batch_size):
        print(f"sentence embeddings written to {folder}")
    return 0


if __name__ == "__main__":
    run(main, parse_args())
