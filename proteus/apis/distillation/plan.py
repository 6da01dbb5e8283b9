"""Work out the config of a distillation run from the arguments, the machine, the models and the images."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from proteus.apis import auto_values as auto
from proteus.apis.auto_values import Auto, Machine
from proteus.apis.distillation import step_speed
from proteus.apis.distillation.config_values import card_facts, config_values
from proteus.apis.distillation.data import RunImages, find_images
from proteus.apis.distillation.model import (
    WEIGHT_KEYS,
    allows_hidden_states,
    check_teacher_images,
    choose_init,
    draft_config,
    given_weights,
    kept_objectives,
    mask_patch_size,
    merged,
    model_values,
    read_values,
    use_hidden_states,
    without_weights,
)
from proteus.apis.distillation.pair import absolute, given_number, resolve_pair
from proteus.apis.distillation.request import Request
from proteus.apis.model_cost import step_cost
from proteus.checkpoints import locate
from proteus.config.build_errors import as_config_error
from proteus.config.suggestions import near_file
from proteus.models import Distiller
from proteus.registry import MODELS
from proteus.structures import UserError

# Keys of the config for which there is an option.
_OPTIONS = {
    "work_dir": "--out",
    "train_dataloader.batch_size": "--batch-size",
    "train_dataloader.num_workers": "--workers",
    "train_cfg.max_iters": "--iters",
    "optim_wrapper.optimizer.lr": "--lr",
    "optim_wrapper.dtype": "--precision",
    "randomness.seed": "--seed",
    "seed": "--seed",
}
_WEIGHTS = [f"model.student.{key}" for key in WEIGHT_KEYS]
_BFLOAT16 = {"bf16": "bfloat16", "fp32": "float32"}


@dataclass
class Plan:
    """A resolved run.

    Attributes:
        values: The config, without its base, in the order in which it is written.
        table: Each resolved value by name, for the user.
        images: The images.
        teacher: Title of the teacher.
        facts: For the model card.
        bytes_needed: Estimate of the disk space that checkpoints and the model folder take.
    """

    values: dict[str, Any]
    table: dict[str, Auto]
    images: RunImages
    teacher: str
    facts: dict[str, Any]
    bytes_needed: int
    comments: dict[str, str] = field(default_factory=dict)

    def format_table(self) -> str:
        """Return the resolved values, one ``name  value  why`` per line."""
        return auto.format_table(self.table)


def make_plan(request: Request, machine: Machine) -> Plan:
    """Resolve a request.

    Raises:
        UserError: A name, a folder or a number is wrong, or two of them do not fit each other.
        DataError: A folder has too few images.
    """
    init_default_scope("proteus")
    for key, option in _OPTIONS.items():
        if key in request.overrides:
            raise UserError(f"--cfg-options {key}: write {option} instead, by which other values are chosen, too")
    request = replace(request, overrides=_with_absolute_weights(request.overrides))
    table: dict[str, Auto] = {}
    # 1. images
    images = find_images(request.data)
    table["images"] = Auto(f"{images.train:,}", f"{images.held_out:,} more are held out for validation, by name")
    # 2. teacher, image size, student
    pair = resolve_pair(request.teacher, request.student, request.img_size, machine, request.download)
    record, title, size = pair.teacher_record, pair.title, int(pair.img_size.value)
    table = {**pair.rows(), **table, "img_size": pair.img_size}
    # 3. model and cost, on the meta device
    of_student = {key: value for key, value in request.overrides.items() if key.startswith("model.student.")}
    with as_config_error("--cfg-options" if of_student else "model.student"):
        student = merged({"model": {"student": dict(pair.student)}}, of_student)["model"]["student"]
        step = record.patch_size or 16
        mask_patch = mask_patch_size(student, size, step)
    model = model_values(pair.teacher, pair.student, record, mask_patch is not None)
    table["objectives"] = kept_objectives(model)
    draft = draft_config(model, size, images, request.overrides, mask_patch)
    with as_config_error("--cfg-options" if request.overrides else "model"), torch.device("meta"):
        check_teacher_images(draft.model.teacher, size, step)
        built = MODELS.build(without_weights(draft.model))
        grids = built.describe_grids((size, size))
    if grids:
        table["grids"] = Auto(grids, "teacher and student have different patches")
    # 4. precision, start, batch
    table["precision"] = _precision(request.precision, machine)
    faster = auto.choose_teacher_precision(machine) if request.precision == "auto" else None
    if faster:
        table["teacher_precision"], model["teacher"]["dtype"] = faster, faster.value
    table["init"] = choose_init(request.init, built, given_weights(draft.model.student))
    table["batch_size"] = given_number(request.batch_size, "--batch-size") or auto.choose_batch_size(
        machine,
        step_cost(built, draft) if machine.has_gpu else None,
        images.train,
        low_precision=table["precision"].value == "bfloat16",
    )
    batch = int(table["batch_size"].value)
    if batch < 2:
        raise UserError("--batch-size 1: half of a batch is masked; write 2 or more")
    total = batch * machine.processes
    if total > images.train:
        why = f"{table['batch_size'].why}; each step repeats images, since there are {images.train:,}"
        table["batch_size"] = replace(table["batch_size"], why=why)
    table["workers"] = given_number(request.workers, "--workers", zero=True) or auto.choose_workers(machine)
    # 5. length, and the recipe for it: a run that turns out to be long has other objectives, and its steps other times
    for short in (True, False):
        recipe = _choose_recipe(short, model, built, table)
        seconds = None
        if request.hours:
            optimizer = {"dtype": table["precision"].value, **recipe.optim_wrapper}
            measured = draft_config(recipe.model, size, images, request.overrides, mask_patch, optimizer)
            seconds = _seconds_per_step(measured, batch, request, machine, table)
        table["iters"] = auto.choose_iters(
            machine, images.train, total, request.epochs, request.iters, request.hours, seconds
        )
        iters = int(table["iters"].value)
        # From a slice the recipe does not depend on the length, and need not be measured again.
        if short == (iters * total < auto.LONG_FROM) or recipe == _choose_recipe(False, model, built, table):
            break
    table["augmentation"] = auto.choose_augmentation(iters * total, recipe.hidden_states)
    table["objectives"] = recipe.objectives
    if recipe.optimizer:
        table["optimizer"] = recipe.optimizer
    table["lr"] = given_number(request.lr, "--lr") or auto.choose_lr(
        table["init"].value, total, iters if recipe.optimizer else None
    )
    # 6. config
    values = config_values(request, machine, table, recipe.model, images, total, mask_patch)
    values["default_hooks"]["export"] = {"teacher": f"{title} ({record.licence})" if record.licence else title}
    if request.overrides:
        values = merged(values, request.overrides)
        kept = [name for name, part in read_values(values).model.objectives.items() if part]
        if {*kept} != {*table["objectives"].value.split(", ")}:
            table["objectives"] = Auto(", ".join(kept), "--cfg-options")
    comments = {
        "custom_hooks": "The student starts as a slice of its teacher (docs/initialization.md).",
        "optim_wrapper": f"lr: {table['lr'].why}",
        "train_cfg": f"{iters * total / images.train:,.1f} passes over {images.train:,} images",
    }
    changed = {key.partition(".")[0] for key in request.overrides}
    return Plan(
        values,
        table,
        images,
        title,
        {"teacher": title, **card_facts(record, images, table, total)},
        # Four checkpoints (weights and two moments each), and the student in six formats.
        bytes_needed=4 * 12 * _count(built) + 6 * 4 * _count(built.student),
        comments={key: text for key, text in comments.items() if key not in changed},
    )


@dataclass(frozen=True)
class _Recipe:
    """What depends on whether a run is short.

    Attributes:
        model: Config of the model.
        hidden_states: Whether the teacher's hidden states are targets.
        objectives: Names of the objectives.
        optimizer: Type of the optimizer; None for that of the base.
    """

    model: dict[str, Any]
    hidden_states: bool
    objectives: Auto
    optimizer: Auto | None

    @property
    def optim_wrapper(self) -> dict[str, Any]:
        """Its part of the optimizer's config."""
        return {"optimizer": {"type": self.optimizer.value}} if self.optimizer else {}


def _choose_recipe(short: bool, model: dict[str, Any], built: Distiller, table: Mapping[str, Auto]) -> _Recipe:
    init = table["init"].value
    # On the last features alone, training overwrites what a slice has, however long it is.
    hidden_states = (short or init == "sliced") and "objectives" not in model and allows_hidden_states(built)
    model = copy.deepcopy(model)
    objectives = use_hidden_states(model, init) if hidden_states else kept_objectives(model)
    return _Recipe(model, hidden_states, objectives, auto.choose_optimizer(init, hidden_states, short))


def _seconds_per_step(cfg: Config, batch: int, request: Request, machine: Machine, table: dict[str, Auto]) -> float:
    """Measure a step; set ``table['workers']`` to what loading needs, unless it is given."""
    with as_config_error("--cfg-options" if request.overrides else "model"):
        speed = step_speed.measure(cfg, batch, machine.device, machine.processes)
    if request.workers == "auto":
        table["workers"] = auto.choose_workers(machine, speed.load_seconds / speed.step_seconds)
    return max(speed.step_seconds, speed.load_seconds / max(int(table["workers"].value), 1))


def _with_absolute_weights(overrides: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return overrides with a path of the student's weight file that holds in any folder."""
    found: dict[str, Any] = {}
    for name, value in overrides.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and any(each.startswith(f"{key}.") for each in _WEIGHTS):
            value = _with_absolute_weights(value, f"{key}.")
        elif isinstance(value, str) and key in _WEIGHTS:
            if not locate(value).exists():
                raise UserError(f"--cfg-options {key}: no such file: '{value}'{near_file(locate(value))}")
            value = absolute(value)
        found[name] = value
    return found


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _precision(wanted: str, machine: Machine) -> Auto:
    wanted = _BFLOAT16.get(wanted, wanted)
    if wanted == "auto":
        return auto.choose_precision(machine)
    if wanted not in ("bfloat16", "float32"):
        raise UserError(f"--precision: found {wanted!r}, expected auto, bfloat16 or float32")
    return Auto(wanted, "--precision")
