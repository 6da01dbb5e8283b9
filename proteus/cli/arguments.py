"""Argument parser and argument types of the command-line tools; wrong values are refused in one line."""

from __future__ import annotations

import math
import re
import sys
from argparse import Action, ArgumentError, ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from mmengine.config import DictAction

from proteus.apis.resources import check_device, check_file, check_folder, check_out_folder, expanded
from proteus.structures import UserError
from proteus.utils.urls import check_url, is_url


class ToolParser(ArgumentParser):
    """Argument parser with one-line errors, ``--debug``, and no abbreviated options; descriptions keep their lines.

    An unknown option is an error that names the nearest ones, before missing arguments are. ``action="extend"``
    collects the values of an option that is given several times in the place of its default, which argparse would keep.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": RawDescriptionHelpFormatter, **kwargs})
        self.register("action", "extend", _Extend)
        if self.add_help:  # not the parent of another parser
            self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments, with the error for an unknown option first."""
        words = list(sys.argv[1:] if args is None else args)
        own = [] if self._subparsers else words[: words.index("--") if "--" in words else None]
        for option in (word.partition("=")[0] for word in own):
            if option.startswith("--") and option not in self._option_string_actions:
                self.error(f"unknown argument {option}{_nearest(option, self._option_string_actions)}")
        return super().parse_known_args(words, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the mistake and exit with status 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


class _Extend(Action):
    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*([] if before is self.default else before), *values])


def _nearest(option: str, known: Iterable[str]) -> str:
    """Return ``; nearest: --batch-size`` for ``--batchsize`` or ``--batch_size``, or nothing if none is near."""
    by_letters = {name.replace("-", ""): name for name in known}
    near = get_close_matches(option.replace("-", "").replace("_", ""), by_letters, n=2, cutoff=0.7)
    return f"; nearest: {', '.join(by_letters[each] for each in near)}" if near else ""


def verb_parser(verb: str, description: str) -> ToolParser:
    """Return the parser of ``proteus VERB``.

    Run as a script of ``tools``, its usage and the examples of its description name the script instead.

    Args:
        verb: Name of the verb.
        description: The docstring of the verb's module, with examples that begin with ``proteus VERB``.
    """
    script = Path(sys.argv[0])
    prog = f"tools/{script.name}" if script.parent.name == "tools" else f"proteus {verb}"
    return ToolParser(prog=prog, description=description.replace(f"proteus {verb} ", f"{prog} "))


def _expected(plain: str, positive: str, non_negative: str, least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"{plain} from {least:g} to {most:g}"
    if most is not None:
        return f"{plain} up to {most:g}"
    if least is None:
        return plain
    return {0: non_negative, 1: positive}.get(int(least), "") or f"{plain} of at least {least:g}"


def _in_range(value: Any, text: str, expected: str, least: float | None, most: float | None) -> Any:
    if (least is not None and value < least) or (most is not None and value > most):
        raise ArgumentTypeError(f"found {text!r}, expected {expected}")
    return value


def integer(least: int | None = None, most: int | None = None) -> Callable[[str], int]:
    """Return the type of an integer option.

    Args:
        least: Smallest value.
        most: Largest value.
    """
    expected = _expected("an integer", "a positive integer", "a non-negative integer", least, most)

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ArgumentTypeError(f"found {text!r}, expected {expected}") from None
        return _in_range(value, text, expected, least, most)

    return parse


def number(least: float | None = None, most: float | None = None, above: float | None = None) -> Callable[[str], float]:
    """Return the type of a float option, which refuses NaN and infinity.

    Args:
        least: Smallest value.
        most: Largest value.
        above: The number must exceed this value.
    """
    if above is not None:
        expected = "a positive number" if above == 0 else f"a number above {above:g}"
        expected += f" up to {most:g}" if most is not None else ""
    else:
        expected = _expected("a number", "", "a non-negative number", least, most)

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (above is not None and value <= above):
            raise ArgumentTypeError(f"found {text!r}, expected {expected}")
        return _in_range(value, text, expected, least, most)

    return parse


positive_int = integer(1)
non_negative_int = integer(0)
positive_number = number(above=0)
non_negative_number = number(least=0)


def device(text: str) -> str:
    """Parse a device that this machine has.

    Raises:
        ArgumentTypeError: The machine does not have the device; the message lists those it has.
    """
    try:
        return check_device(text)
    except UserError as error:
        raise ArgumentTypeError(str(error)) from None


def existing_file(text: str) -> Path:
    """Parse the path of a readable file.

    Raises:
        ArgumentTypeError: The path is missing, a folder, or unreadable.
    """
    try:
        return check_file(text)
    except UserError as error:
        raise ArgumentTypeError(str(error)) from None


def existing_folder(text: str) -> Path:
    """Parse the path of a readable folder.

    Raises:
        ArgumentTypeError: The path is missing, a file, or unreadable.
    """
    try:
        return check_folder(text)
    except UserError as error:
        raise ArgumentTypeError(str(error)) from None


def out_folder(text: str) -> Path:
    """Parse the path of a folder to write to, existing or new.

    Raises:
        ArgumentTypeError: The path is a file, lies below a file, or cannot be written to.
    """
    try:
        return check_out_folder(text)
    except UserError as error:
        raise ArgumentTypeError(str(error)) from None


def out_folder_or_url(text: str) -> Path | str:
    """Parse the path of a folder to write to, or a URL without credentials.

    Raises:
        ArgumentTypeError: As for :func:`out_folder`, or the URL holds credentials.
    """
    try:
        return check_url("target", text) if is_url(text) else check_out_folder(text)
    except UserError as error:
        raise ArgumentTypeError(str(error)) from None


def out_file(text: str) -> Path:
    """Parse the path of a file to write, existing or new.

    Raises:
        ArgumentTypeError: The path is a folder, or its folder is a file or cannot be written to.
    """
    try:
        if not text.strip():
            raise UserError("found an empty name, expected a file to write")
        path = expanded(text)
        check_out_folder(path.parent)
        if path.is_dir():
            raise UserError(f"'{text}' is a folder; name a file to write")
    except UserError as error:
        raise ArgumentTypeError(str(error)) from None
    return path


class KeyValues(DictAction):
    """Collect ``KEY=VALUE`` options in a dict as MMEngine's ``DictAction``, but refuse values that it misreads."""

    def __call__(
        self,
        parser: ArgumentParser,
        namespace: Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add options to those of earlier arguments.

        Raises:
            ArgumentError: An option lacks ``=``, its key or its value, is a dict, is a list with a space in an element,
                or was given twice.
        """
        for text in [values] if isinstance(values, str) else values or []:
            key, separator, value = text.partition("=")
            key = re.sub(r"\[(\d+)\]", r".\1", key)  # error messages write list positions as [1]
            given = getattr(namespace, self.dest, None) or {}
            problem = _key_problem(text, key, separator, given) or _value_problem(key, value)
            if problem is None:
                try:
                    if _is_list(value):
                        super().__call__(parser, namespace, [f"{key}={value}"], option_string)
                    else:  # MMEngine removes spaces, which a path or a title may have
                        parsed = self._parse_int_float_bool(value.strip().strip("'\""))
                        setattr(namespace, self.dest, {**given, key: parsed})
                except (RecursionError, AssertionError):
                    problem = f"{text!r}: brackets do not match; write {key}=[1,2]"
            if problem is None and _has_empty(getattr(namespace, self.dest)[key]):
                problem = f"{text!r}: an element of the list is empty; write {key}=[1,2]"
            if problem is not None:
                raise ArgumentError(self, problem)


def add_key_values(parser: ArgumentParser, help: str = "override config keys") -> Action:
    """Add ``--cfg-options KEY=VALUE ...`` to a parser."""
    return parser.add_argument("--cfg-options", nargs="+", action=KeyValues, metavar="KEY=VALUE", help=help)


def _key_problem(text: str, key: str, separator: str, given: Mapping[str, Any]) -> str | None:
    if not separator:
        return f"found {text!r}, expected KEY=VALUE, such as train_dataloader.batch_size=64"
    if not key or any(not part.strip() or part != part.strip() for part in key.split(".")):
        return f"{text!r}: a part of the key is empty; write KEY=VALUE, such as train_dataloader.batch_size=64"
    if key in given:
        return f"{key} is given twice; write it once"
    for other in given:
        if key.startswith(f"{other}.") or other.startswith(f"{key}."):
            return f"{key} and {other} are both given, and one holds the other; write one of them"
    return None


def _value_problem(key: str, value: str) -> str | None:
    if not value.strip():
        return f"{key} has no value; write {key}=None for none, or {key}=\"''\" for an empty string"
    if value.strip().startswith("{"):
        return f"{key}: found a dict; set its keys one by one: {key}.NAME=VALUE"
    if _is_list(value) and re.search(r"[^\s,(\[] +[^\s,)\]]", value):
        return f"{key}: found a list with a space in an element, which would be lost; write the list in the config"
    return None


def _is_list(value: str) -> bool:
    return "," in value or value.strip().strip("'\"")[:1] in ("(", "[")


def _has_empty(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(item == "" or _has_empty(item) for item in value)
