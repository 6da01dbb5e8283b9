"""Teacher and student by name, and the size of their images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proteus.apis import auto_values as auto
from proteus.apis.auto_values import Auto, Machine
from proteus.checkpoints import locate
from proteus.checkpoints.paths import split_part
from proteus.structures import UserError


@dataclass(frozen=True)
class Pair:
    """A teacher and a student for images of one size.

    Attributes:
        names: What the user calls the two.
        teacher: Config of the teacher's backbone, with its weights.
        teacher_record: What is known of it.
        student: Config of the student.
        student_record: What is known of it.
        img_size: Side of the images in pixels.
    """

    names: tuple[str, str]
    teacher: dict[str, Any]
    teacher_record: Any
    student: dict[str, Any]
    student_record: Any
    img_size: Auto

    @property
    def title(self) -> str:
        """Name of the teacher for people."""
        return str(self.teacher_record.title or Path(self.names[0]).name)

    def rows(self) -> dict[str, Auto]:
        """Return what is known of the two, for a table."""
        record = self.teacher_record
        size = f"{record.params / 1e6:.1f} M parameters" if record.params else ""
        about = ", ".join(filter(None, [self.title, size, record.licence]))
        student = _student_title(self.student_record)
        return {"teacher": Auto(self.names[0], about), "student": Auto(self.names[1], student)}


def resolve_pair(teacher: str, student: str, img_size: int | str, machine: Machine, download: bool) -> Pair:
    """Find a teacher, choose the size of the images, and make a student for it.

    A ViT gets the teacher's patch size and registers.

    Args:
        teacher: Any name of :func:`proteus.load_backbone`.
        student: ``vit_tiny``, ``vit_small``, ``vit_base``, ``vit_large``, ``timm/NAME`` or ``mmpretrain/NAME``.
        img_size: Side of the images in pixels, or ``auto``.
        machine: The machine, by which ``auto`` is chosen.
        download: Download weights that are not on this machine.

    Raises:
        UserError: A name or a number is wrong, or they do not fit each other.
    """
    from proteus.models.zoo import student_config, teacher_config

    _, record = teacher_config(teacher, None, download)
    chosen = given_number(img_size, "--img-size") or auto.choose_img_size(machine, record.img_size, record.patch_size)
    size = int(chosen.value)
    if record.patch_size and size % record.patch_size:
        down = max(size // record.patch_size, 1) * record.patch_size
        raise UserError(
            f"--img-size {size} is not a multiple of the teacher's patch size {record.patch_size}: write {down} or "
            f"{down + record.patch_size}"
        )
    config, record = teacher_config(teacher, size, download)
    config = _with_absolute_paths(config)  # the run's config is used from any folder
    own, own_record = student_config(student, record.patch_size or 16, size)
    if own.get("type") == config.get("type") == "ViT" and config.get("reg_tokens") and "reg_tokens" not in own:
        own = {**own, "reg_tokens": config["reg_tokens"]}
    return Pair((teacher, student), config, record, own, own_record, chosen)


def absolute(checkpoint: str) -> str:
    """Return the name of a weight file with an absolute path; ``package:NAME/FILE`` and a part after ``#`` are kept."""
    name, part = split_part(checkpoint)
    if name.startswith("package:"):
        return checkpoint
    return f"{locate(name).absolute()}{'' if part is None else f'#{part}'}"


def _with_absolute_paths(config: dict[str, Any]) -> dict[str, Any]:
    changed: dict[str, Any] = {
        key: absolute(config[key]) for key in ("checkpoint", "heads") if isinstance(config.get(key), str)
    }
    weights = config.get("init_cfg") or {}
    if isinstance(weights.get("checkpoint"), str):  # mmpretrain's
        changed["init_cfg"] = {**weights, "checkpoint": absolute(weights["checkpoint"])}
    return {**config, **changed}


def given_number(value: Any, option: str, zero: bool = False) -> Auto | None:
    """Return a value that the user gave; None for ``auto``.

    Raises:
        UserError: It is not a positive number.
    """
    if value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value > 0 or (zero and value == 0)):
        raise UserError(f"{option}: found {value!r}, expected a positive number or 'auto'")
    return Auto(value, option)


def _student_title(record: Any) -> str:
    title = str(record.title).removesuffix(", random weights")
    patch = f"/{record.patch_size}" if record.patch_size and "/" not in title else ""
    size = f", {record.params / 1e6:.1f} M parameters" if record.params else ""
    return f"{title}{patch}{size}"
