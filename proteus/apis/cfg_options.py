"""The option ``--cfg-options KEY=VALUE ...``."""

from __future__ import annotations

import re
from argparse import Action, ArgumentError, ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import DictAction


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
            ArgumentError: An option lacks ``=``, its key or its value, is a dict, or was given twice.
        """
        for text in [values] if isinstance(values, str) else values or []:
            key, separator, value = text.partition("=")
            key = re.sub(r"\[(\d+)\]", r".\1", key)  # error messages write list positions as [1]
            given = getattr(namespace, self.dest, None) or {}
            problem = _key_problem(text, key, separator, given) or _value_problem(key, value)
            if problem is None:
                try:
                    super().__call__(parser, namespace, [f"{key}={value}"], option_string)
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
    return None


def _has_empty(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(item == "" or _has_empty(item) for item in value)
