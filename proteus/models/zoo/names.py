"""Names of models: list them, and find the record of one."""

from __future__ import annotations

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal

from proteus.models.zoo.known import known_students, known_teachers
from proteus.models.zoo.record import ModelRecord
from proteus.structures import UserError


def list_models(pattern: str = "*", role: Literal["teacher", "student"] | None = None) -> list[str]:
    """List the names of models.

    Args:
        pattern: Names to list, with ``*`` and ``?`` as in a shell. ``timm/*`` and ``mmpretrain/*`` list the models of
            these packages, which other patterns leave out.
        role: ``teacher`` for models with weights, ``student`` for architectures to train, None for both.

    Returns:
        The names in alphabetical order.

    Raises:
        UserError: ``role`` is neither, or ``mmpretrain/*`` is asked for and mmpretrain is not installed.
    """
    if role not in ("teacher", "student", None):
        raise UserError(f"role is {role!r}; write 'teacher', 'student', or leave it out")
    names: set[str] = set()
    if pattern.startswith("timm/"):
        import timm

        names |= {f"timm/{name}" for name in timm.list_models()} if role != "teacher" else set()
        names |= {f"timm/{name}" for name in timm.list_pretrained()} if role != "student" else set()
    elif pattern.startswith("mmpretrain/"):
        from proteus.models.zoo.mmpretrain_record import mmpretrain_names

        names |= {f"mmpretrain/{name}" for name in mmpretrain_names()}
    else:
        names |= set(known_teachers()) if role != "student" else set()
        names |= set(known_students()) if role != "teacher" else set()
    return sorted(name for name in names if fnmatchcase(name, pattern))


def find_model(name: str) -> ModelRecord:
    """Return the record of a model.

    Args:
        name: A name of :func:`list_models`, ``timm/NAME``, ``mmpretrain/NAME``, or timm's own name.

    Raises:
        UserError: No model has the name; the message lists the nearest names.
    """
    known = {**known_teachers(), **known_students()}
    if name in known:
        return known[name]
    if name.startswith("mmpretrain/"):
        from proteus.models.zoo.mmpretrain_record import mmpretrain_record

        return mmpretrain_record(name.removeprefix("mmpretrain/"))
    from timm.models import is_model, list_pretrained
    from timm.models import list_models as list_models_of_timm

    from proteus.models.zoo.timm_record import timm_record

    if name.startswith("timm/") or is_model(name.split(".")[0]):
        return timm_record(name.removeprefix("timm/"))
    stem = name.rpartition("/")[2]  # torchvision/resnet18
    if is_model(stem.split(".")[0]):
        raise UserError(f"unknown model '{name}'; nearest: timm/{stem}. `proteus models` lists all names")
    written = {one: f"timm/{one}" for one in [*list_models_of_timm(), *list_pretrained()]} | {one: one for one in known}
    near = [written[one] for one in get_close_matches(name, written, n=3)]
    raise UserError(
        f"unknown model '{name}'; nearest: {', '.join(near) or 'none'}. `proteus models` lists all names; a weight "
        "file or a model folder is a name as well"
    )
