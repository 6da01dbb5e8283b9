"""Parts of a config that must fit each other, checked before any of them is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mmengine.config import Config

from proteus.apis.config import ConfigError
from proteus.checkpoints import locate
from proteus.datasets.collate import smallest_batch

_CROPS = ("RandomResizedCrop", "CenterCrop")
_MASKS = ("UniformMask", "BlockMask")


class Missing(NamedTuple):
    """A file or folder that a config names and that is not there."""

    key: str
    path: str

    def __str__(self) -> str:
        return f"{self.key} = {self.path!r}"


def check_batch(cfg: Config) -> None:
    """Refuse a batch in which no image would be masked although a mask transform asks for it.

    Raises:
        ConfigError: Names the batch size that would do.
    """
    loader = cfg.train_dataloader
    collate = loader.get("collate_fn", {})
    masks = any(step["type"] in _MASKS for step in loader.dataset.get("pipeline", []))
    if not masks or collate.get("type") != "distill_collate":
        return
    probability = collate.get("probability", 0.5)
    if int(loader.batch_size * probability) == 0:
        raise ConfigError(
            [
                f"train_dataloader.batch_size = {loader.batch_size}: at train_dataloader.collate_fn.probability = "
                f"{probability} no image of it is masked; write at least {smallest_batch(probability)}"
            ],
            str(cfg.filename),
        )


def check_sizes(cfg: Config) -> None:
    """Refuse crops and masks that are made for another student.

    Raises:
        ConfigError: Names both keys.
    """
    student = cfg.model.get("student", {})
    size, patch = student.get("img_size", 224), student.get("patch_size", 14)
    problems = []
    for position, step in enumerate(cfg.train_dataloader.dataset.get("pipeline", [])):
        key = f"train_dataloader.dataset.pipeline[{position}]"
        if step["type"] in _CROPS and step["size"] != size:
            problems.append(f"{key}.size = {step['size']} ({step['type']}): model.student.img_size is {size}")
        if step["type"] in _MASKS and step.get("patch_size", 14) != patch:
            problems.append(f"{key}.patch_size = {step.get('patch_size', 14)}: model.student.patch_size is {patch}")
    if problems:
        raise ConfigError(problems, str(cfg.filename))


def check_files(cfg: Config, sections: Sequence[str]) -> None:
    """Refuse a config whose weights or data are not there.

    Args:
        cfg: The config.
        sections: Top-level keys that will be used.

    Raises:
        ConfigError: Names each key and path.
    """
    missing = [entry for entry in missing_files(cfg) if entry.key.split(".")[0] in sections]
    if missing:
        remedy = "put it there, or name another place with --cfg-options"
        raise ConfigError([f"{entry} does not exist; {remedy} {entry.key}=..." for entry in missing], str(cfg.filename))


def missing_files(cfg: Config) -> list[Missing]:
    """Weights and data folders that a config names and that are not on this machine."""
    return [Missing(key, path) for key, path in _paths(cfg.to_dict()) if not locate(path).exists()]


def _paths(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, item in value.items():
            here = f"{key}.{name}" if key else str(name)
            if name in ("checkpoint", "data_root", "load_from") and isinstance(item, str) and item:
                yield here, item
            else:
                yield from _paths(item, here)
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            yield from _paths(item, f"{key}[{position}]")
