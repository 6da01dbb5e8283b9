"""Find the configs that come with Proteus, and find one by name."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from proteus.config.suggestions import nearest, nearest_file
from proteus.structures import ConfigError

_PACKAGE = Path(__file__).parents[1]


@cache
def configs_root() -> Path:
    """Return the folder of the configs that come with Proteus.

    In a clone, ``proteus/.mim/configs`` is a link to ``configs``; a wheel has a copy there. MMEngine looks up
    ``_base_ = "proteus::..."`` in this layout.
    """
    folder = (_PACKAGE / ".mim/configs").resolve()
    return folder if folder.is_dir() else _PACKAGE.parent / "configs"  # a clone without symbolic links


@cache
def config_names() -> dict[str, Path]:
    """Return the configs of :func:`configs_root`, except for ``_base_``, by their shortest unique names.

    ``proteus/vit-s_dinov2-b.py`` is ``vit-s_dinov2-b``; ``finetune/vit-s.py`` keeps its folder, since
    ``linear_probe/vit-s.py`` has the same file name.
    """
    files = _files()
    names: dict[str, Path] = {}
    for full, path in files.items():
        parts = full.split("/")
        endings = ["/".join(parts[start:]) for start in reversed(range(len(parts)))]
        names[next(name for name in endings if name == full or len(_matches(name, files)) == 1)] = path
    return names


def locate_config(name: str | Path) -> Path:
    """Return the config file that a name stands for.

    Args:
        name: A file; or a config of :func:`configs_root` by the end of its path, with or without ``.py``:
            ``vit-s_dinov2-b``, ``proteus/vit-s_dinov2-b.py``, ``configs/proteus/vit-s_dinov2-b.py``, or
            ``proteus::proteus/vit-s_dinov2-b.py`` as in ``_base_``. Files come first.

    Returns:
        Path of the file. A path that does not exist is returned if a file in its folder has a similar name, so that
        :func:`~proteus.config.load.read_config` can suggest it.

    Raises:
        ConfigError: Several configs end in the name, or there is none; the message has the nearest names.
    """
    path, text = Path(name).expanduser(), str(name)
    if path.is_absolute() or not text.strip() or (os.path.lexists(path) and not path.is_dir()):
        return path
    wanted = text.removeprefix("proteus::").removeprefix("configs/").removesuffix(".py")
    exact = configs_root() / f"{wanted}.py"  # also a part of _base_
    try:
        if ".." not in exact.parts and exact.is_file():
            return exact
    except (OSError, ValueError):  # too long, or a NUL byte
        return path
    found = _matches(wanted, _files())
    if len(found) == 1:
        return _files()[found[0]]
    if found:
        raise ConfigError([f"several configs have this name; write one of: {', '.join(found)}"], text)
    if os.path.lexists(path) or nearest_file(path) is not None:
        return path
    names = nearest(wanted, [*config_names(), *_files()], 3, full_name=True)
    hint = f"did you mean {' or '.join(map(repr, names))}?" if names else "list the names with `proteus config list`"
    raise ConfigError([f"no such config file, and no config of this name; {hint}"], text)


def locate_base(base: str, source: str) -> Path:
    """Return the file of ``_base_ = "proteus::PATH"``.

    Args:
        base: ``proteus::`` and a path below :func:`configs_root`.
        source: Name of the config that has this base.

    Raises:
        ConfigError: The file does not exist; the message names the nearest one.
    """
    root, name = configs_root(), base.partition("::")[2]
    path = root / name
    if not path.is_file():
        near = nearest(name, [file.relative_to(root).as_posix() for file in root.rglob("*.py")], 1, full_name=True)
        hint = f"did you mean 'proteus::{near[0]}'?" if near else "write a path as in `proteus config list --paths`"
        raise ConfigError([f"_base_: no such config file: '{base}'; {hint}"], source)
    return path


@cache
def _files() -> dict[str, Path]:
    """Return the configs by path below the root, without ``.py``."""
    root = configs_root()
    paths = sorted(path for path in root.rglob("*.py") if not {"_base_", "__pycache__"} & set(path.parts))
    return {path.relative_to(root).with_suffix("").as_posix(): path for path in paths}


def _matches(name: str, files: dict[str, Path]) -> list[str]:
    return [full for full in files if full == name or full.endswith(f"/{name}")]
