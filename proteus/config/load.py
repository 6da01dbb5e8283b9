"""Load config files, merge overrides and check the result.

Python configs are trusted code; YAML and JSON configs are data. A data config may name registered parts only: no
``custom_imports``, no dotted import paths in ``type``, no scope of an unknown package, no environment variables
(``{{$NAME:...}}``). Its ``_base_`` may be data, or a Python config of this project or of an installed toolbox.
"""

from __future__ import annotations

import ast
import copy
import importlib
import re
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import get_installed_path, is_installed

from proteus.config.annotations import shown
from proteus.config.locate import configs_root, locate_base, locate_config
from proteus.config.overrides import check_overrides, merged
from proteus.config.suggestions import near_file
from proteus.config.validate import check_config
from proteus.config.yaml_json import check_data, parse_data
from proteus.structures import ConfigError

SUFFIXES = (".py", ".yaml", ".yml", ".json")
_DUPLICATE = re.compile(r"Duplicate keys: \{(.+?)\}")


def load_config(path: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """Load a config file, merge overrides into it and check the result.

    Args:
        path: Config file (``.py``, ``.json`` or ``.yaml``), or the name of a config that comes with Proteus, such as
            ``vit-s_dinov2-b`` (see :func:`~proteus.config.locate.locate_config`).
        overrides: Values by dotted key, as MMEngine's ``DictAction`` parses ``--cfg-options``. List positions are
            numbers (``param_scheduler.0.end``).

    Returns:
        The config. The modules of its ``custom_imports`` have been imported, also from the current folder.

    Raises:
        ConfigError: The file or one of its bases is missing or broken (see :func:`read_config`), a module of
            ``custom_imports`` cannot be imported, or :func:`validate` found problems.
    """
    overrides = overrides or {}
    path = locate_config(path)
    config = read_config(path)
    imports = {key: value for key, value in overrides.items() if key.split(".")[0] == "custom_imports"}
    try:
        import_custom(merged(config, imports).get("custom_imports"), path)
        validate(config, overrides)
    except ImportError as error:  # in the imports of a pure Python config
        raise ConfigError([str(error)], str(path)) from error
    result = merged(config, overrides)
    for value in dict(result.items()).values():
        _drop_marks(value, result.get("default_scope"))
    return result


def validate(cfg: Config | Mapping[str, Any], overrides: Mapping[str, Any] | None = None) -> None:
    """Check all keys and values of a config.

    Args:
        cfg: The config before the merge; it is not changed.
        overrides: Values by dotted key. Each must name an existing or a valid key; the merged config is checked.

    Raises:
        ConfigError: Lists all problems.
    """
    config = copy.deepcopy(cfg) if isinstance(cfg, Config) else Config(copy.deepcopy(dict(cfg)))
    refused: dict[str, str] = {}
    if overrides:
        refused = check_overrides(config, overrides)
        config = merged(config, {key: value for key, value in overrides.items() if key not in refused})
    problems = dict.fromkeys([*refused.values(), *check_config(config)])
    if problems:
        raise ConfigError(problems, str(config.filename or "config"))


def read_config(path: str | Path) -> Config:
    """Read a config file and its bases.

    Args:
        path: A file of MMEngine's formats (``.py``, ``.yaml``, ``.yml`` or ``.json``), or a name as for
            :func:`load_config`.

    Returns:
        The config merged with its bases, not checked.

    Raises:
        ConfigError: The file or one of its bases is missing, unreadable, broken, or leads back to itself; a Python
            config raises an exception; a data config names code.
    """
    file = locate_config(path)
    _check_chain(file, ())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # invalid escapes in strings
            return Config.fromfile(file, import_custom_modules=False)
    except RecursionError as error:
        raise ConfigError(["its values or its bases lead back to themselves"], str(file)) from error
    except (Exception, SystemExit) as error:
        raise ConfigError([_where(error, file)], str(file)) from error


def import_custom(custom: Mapping[str, Any] | None, path: str | Path) -> None:
    """Import the modules of ``custom_imports``; warn about missing ones if ``allow_failed_imports`` is set.

    Args:
        custom: The value of ``custom_imports``.
        path: Name of the config, for messages.

    Raises:
        ConfigError: The value is of another form, or a module cannot be imported.
    """
    if not custom:
        return
    if not isinstance(custom, Mapping):
        raise ConfigError([f"custom_imports: found {shown(custom)}, expected a dict with imports=[...]"], str(path))
    if not custom.get("imports"):
        return
    if str(Path.cwd()) not in sys.path:
        # As with ``python -m``; for a script, Python adds the script's folder instead of the current one.
        sys.path.append(str(Path.cwd()))
    modules = [custom["imports"]] if isinstance(custom["imports"], str) else custom["imports"]
    if not isinstance(modules, (list, tuple)) or not all(isinstance(module, str) for module in modules):
        text = f"custom_imports.imports: found {shown(custom['imports'])}, expected a module's name or a list of names"
        raise ConfigError([text], str(path))
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # code of a user
            reason = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            text = (
                f"custom_imports.imports: module '{module}' cannot be imported ({reason}); correct its name, start "
                "from the folder that holds it, or put that on PYTHONPATH"
            )
            if not (isinstance(error, ImportError) and custom.get("allow_failed_imports", False)):
                raise ConfigError([text], str(path)) from error
            warnings.warn(f"{path}: {text}", stacklevel=3)


def _drop_marks(value: Any, scope: str | None) -> None:
    """Remove what MMEngine leaves in dicts and functions do not accept.

    These are ``_delete_`` in a new dict, and ``_scope_`` in the parts of a base ``package::...``, which does nothing if
    it equals the default scope.
    """
    if isinstance(value, dict):
        value.pop("_delete_", None)
        if scope is not None and value.get("_scope_") == scope:
            del value["_scope_"]
        for item in value.values():
            _drop_marks(item, scope)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _drop_marks(item, scope)


def _check_chain(file: Path, chain: tuple[Path, ...]) -> None:
    """Check a file and all its bases without executing them."""
    text = _read_text(file, chain)
    earlier = [part.resolve() for part in chain]
    if file.resolve() in earlier:
        names = " -> ".join(str(part) for part in (*chain[earlier.index(file.resolve()) :], file))
        raise ConfigError([f"_base_ leads back to itself: {names}"], str(chain[0]))
    if file.suffix == ".py":
        bases = _python_bases(text, file)
    else:
        content = parse_data(text, file)
        bases = content.get("_base_", [])
        check_data(content, file)
    is_data = file.suffix != ".py"
    for base in _base_names(bases, file):
        path = _locate(base, file)
        if path is None:  # looked up by MMEngine in the package's model index
            continue
        if is_data and path.suffix == ".py" and not _is_installed_config(path, base):
            raise ConfigError(
                [
                    f"_base_: '{base}' is Python, which a {file.suffix} config may not run; write this config in "
                    "Python, or the base in YAML or JSON"
                ],
                str(file),
            )
        _check_chain(path, (*chain, file))


def _read_text(file: Path, chain: Sequence[Path]) -> str:
    """Read a file; for a base, errors name the file that refers to it."""
    source, prefix = (str(chain[-1]), f"_base_: '{file}': ") if chain else (str(file), "")
    try:
        if file.is_dir():
            raise ConfigError([f"{prefix}is a folder; name a config file in it"], source)
        if file.is_symlink() and not file.exists():
            raise ConfigError([f"{prefix}is a broken link"], source)
        if not file.exists():
            missing = f"_base_: no such config file: '{file}'" if chain else "no such config file"
            raise ConfigError([f"{missing}{near_file(file)}"], source)
        if file.suffix not in SUFFIXES:
            raise ConfigError(
                [f"{prefix}unknown suffix '{file.suffix}'; a config file is one of {', '.join(SUFFIXES)}"], source
            )
        text = file.read_text(encoding="utf-8")
    except ConfigError:
        raise
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError([f"{prefix}line {line} is not UTF-8; save the file in that encoding"], source) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError([f"{prefix}cannot be read: {reason}"], source) from error
    except ValueError as error:  # a NUL byte in the name
        raise ConfigError([f"{prefix}{error}"], source) from error
    if not text.strip():
        raise ConfigError([f"{prefix}the file is empty; a config starts with _base_ or model"], source)
    return text


def _python_bases(text: str, file: Path) -> Any:
    """Return the literal that a Python config assigns to ``_base_``; an empty list if it is computed.

    Raises:
        ConfigError: The file cannot be parsed, or a dict literal has a key twice.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text, str(file))
    except SyntaxError as error:
        line = f" on line {error.lineno}" if error.lineno else ""
        raise ConfigError([f"syntax error{line}: {error.msg}"], str(file)) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError([f"cannot be parsed: {error}"], str(file)) from error
    problems = _repeated_keys(tree)
    if problems:
        raise ConfigError(problems, str(file))
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_base_":
            try:
                return ast.literal_eval(node.value)
            except ValueError:
                return []
    return []


def _repeated_keys(tree: ast.Module) -> list[str]:
    """Return a line for each string that is a key of a dict literal twice: Python would keep the last one silently."""
    problems = []
    for node in ast.walk(tree):
        first: dict[str, int] = {}
        for key in node.keys if isinstance(node, ast.Dict) else ():
            if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
                continue
            if key.value in first:
                problems.append(
                    f"line {key.lineno}: the key {key.value!r} is on line {first[key.value]} of the same dict as well; "
                    "rename or remove one"
                )
            first.setdefault(key.value, key.lineno)
    return problems


def _base_names(bases: Any, file: Path) -> list[str]:
    names = bases if isinstance(bases, (list, tuple)) else [bases]
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(
                [f"_base_: found {name!r}, expected the name of a config file, or a list of names"], str(file)
            )
    return list(names)


def _locate(base: str, file: Path) -> Path | None:
    if "::" not in base:
        return file.parent / base
    package, _, name = base.partition("::")
    if not is_installed(package):
        raise ConfigError([f"_base_: '{base}': the package '{package}' is not installed"], str(file))
    if package == "proteus":
        return locate_base(base, str(file))
    path = Path(get_installed_path(package)) / ".mim" / "configs" / name
    return path if path.is_file() else None


def _is_installed_config(path: Path, base: str) -> bool:
    folders = [configs_root(), Path(__file__).parents[1]]  # of this project, cloned or installed
    if "::" in base:
        folders.append(Path(get_installed_path(base.partition("::")[0])) / ".mim")
    return any(folder.resolve() in path.resolve().parents for folder in folders)


def _where(error: BaseException, file: Path) -> str:
    """Describe an error in the code of a config, with its line."""
    words = " ".join(str(error).split())
    duplicate = _DUPLICATE.search(words)
    if duplicate:
        return f"_base_: two bases define {duplicate[1]}; keep each key in one of them"
    if isinstance(error, FileNotFoundError):
        quoted = re.search(r'"(.+?)"', words)
        missing = error.filename or (quoted.group(1) if quoted else words)
        return f"_base_: no such config file: '{missing}'{near_file(missing)}"
    # MMEngine executes a config as a module. Modules that it imports come later in the traceback.
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    name = "ends the process" if isinstance(error, SystemExit) else f"{type(error).__name__}: {words}"
    if not frames:
        return name
    source = "" if Path(frames[0].filename).resolve() == file.resolve() else f" of '{frames[0].filename}'"
    return f"line {frames[0].lineno}{source}: {name}"
