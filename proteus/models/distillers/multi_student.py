"""Several students of one teacher, in one run."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError
from proteus.models.distillers.distiller import Distiller
from proteus.models.distillers.micro_batches import MicroBatchedModel
from proteus.models.teachers import Teacher
from proteus.registry import MODELS
from proteus.structures import Features

_SHARED = ("teacher", "data_preprocessor", "micro_batches")


@MODELS.register_module()
class MultiStudentDistiller(MicroBatchedModel):
    """Distil a teacher into several students that see the same images, with one pass of the teacher for all.

    Each becomes what a run of its own with the same seed would make of it: it starts from the same random weights,
    draws the same numbers in each step (under ``SeedEachStepHook``), and has losses of its own,
    ``<name>.loss_<objective>``. The optimizer is one for all, which AdamW does not notice; what looks at all gradients
    at once does (clipping by their norm, a gradient scaler that skips a step).

    Args:
        teacher: Config of the teacher.
        students: For each student, under its name, what :class:`Distiller` takes for one: ``student``, ``objectives``
            and, if wanted, ``init_from`` and ``compile_student``. ``None`` drops one that a base config has.
        data_preprocessor: Config of the data preprocessor.
        micro_batches: See :class:`MicroBatchedModel`.

    Raises:
        ValueError: Something does not fit; the message names the keys.
        CheckpointError: Weights cannot be read, or are another model's.
    """

    teacher: Teacher

    def __init__(
        self,
        teacher: dict[str, Any],
        students: Mapping[str, dict[str, Any] | None],
        data_preprocessor: dict[str, Any] | None = None,
        micro_batches: int = 1,
    ) -> None:
        preprocessor = MODELS.build(data_preprocessor or {"type": "DistillDataPreprocessor"})
        super().__init__(data_preprocessor=preprocessor, micro_batches=micro_batches)
        wanted = _checked(students)
        statistics = {"input_mean": preprocessor.channel_mean, "input_std": preprocessor.channel_std}
        try:
            shared: Teacher = MODELS.build(teacher, default_args=statistics)
        except CheckpointError as error:
            raise CheckpointError(f"model.teacher.{error}") from error
        self.__dict__["teacher"] = shared  # not a submodule, as in Distiller
        # Each student's weights are drawn from where a run of its own would stand once it has built the teacher.
        start = torch.get_rng_state()
        self.students = nn.ModuleDict()
        for name, config in wanted.items():
            torch.set_rng_state(start)
            with _told_as(name):
                self.students[name] = Distiller(
                    # Functions, which the registry calls, in place of configs: the parts are there already.
                    teacher={"type": lambda **_: shared},
                    data_preprocessor={"type": lambda: preprocessor},
                    **config,
                )
        self._check_sizes()

    @property
    def distillers(self) -> dict[str, Distiller]:
        """The students by name, each as the model of a run of its own; they share the teacher."""
        return dict(self.students.items())  # type: ignore[arg-type]

    def init_weights(self) -> None:
        """Nothing to do: every part has initialised itself or loaded its weights when it was built."""

    def forward(
        self,
        images: Tensor,
        masks: Tensor | None = None,
        mask_indices: Tensor | None = None,
        metas: list[dict[str, Any]] | None = None,
        labels: Tensor | None = None,
        teacher_cls: Tensor | None = None,
        teacher_patches: Tensor | None = None,
        mask_share: float | Tensor = 1.0,
        mode: str = "tensor",
    ) -> Any:
        """Run one batch, as MMEngine's runner does.

        Args:
            images: ``(B, 3, H, W)``, normalised for the students.
            masks: As for :meth:`Distiller.forward`.
            mask_indices: Likewise.
            metas: Likewise.
            labels: Likewise.
            teacher_cls: Likewise.
            teacher_patches: Likewise.
            mask_share: Likewise.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            ``loss``: each weighted term as ``<student>.loss_<objective>``. ``predict``: see :meth:`agreement`.
            ``tensor``: the ``Features`` of each student by its name.
        """
        if mode == "predict":
            return self.agreement(images, metas or [{} for _ in images])
        if mode != "loss":
            return {name: distiller.student(images) for name, distiller in self.distillers.items()}
        if teacher_cls is not None and teacher_patches is not None:
            cached = {"teacher_cls": teacher_cls, "teacher_patches": teacher_patches, "mask_share": mask_share}
            found = {
                name: distiller(images, masks, mask_indices, labels=labels, mode="loss", **cached)
                for name, distiller in self._in_turn(images)
            }
        else:
            taught = self.teach(images)
            found = {
                name: distiller.losses(images, masks, mask_indices, labels, taught, mask_share)
                for name, distiller in self._in_turn(images)
            }
        return {f"{name}.{term}": value for name, terms in found.items() for term, value in terms.items()}

    def teach(self, images: Tensor) -> tuple[Features, Tensor | None]:
        """Run the teacher once, for all that any student asks of it (see :meth:`Distiller.teach`)."""
        distillers = list(self.distillers.values())
        return next((each for each in distillers if each.needs_logits), distillers[0]).teach(images)

    def agreement(self, images: Tensor, metas: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Tokens of the teacher and of each student, image by image.

        Returns:
            As :meth:`Distiller.agreement`, with ``<name>.student_cls`` and the like for each student.
        """
        teacher, logits = self.teach(images)
        tokens = {"teacher_cls": teacher.cls, "teacher_patches": teacher.patches}
        tokens |= {} if logits is None else {"teacher_logits": logits}
        for name, distiller in self.distillers.items():
            predicted = distiller.predict_tokens(distiller.student(images))
            tokens |= {f"{name}.student_{kind}": value for kind, value in predicted.items()}
        return [{**meta, **{key: value[i] for key, value in tokens.items()}} for i, meta in enumerate(metas)]

    def _in_turn(self, images: Tensor) -> Iterator[tuple[str, Distiller]]:
        """The students, each of which finds the random numbers (for drop path) that it would find alone."""
        state = torch.get_rng_state()
        state_of_device = torch.cuda.get_rng_state(images.device) if images.is_cuda else None
        for name, distiller in self.distillers.items():
            torch.set_rng_state(state)
            if state_of_device is not None:
                torch.cuda.set_rng_state(state_of_device, images.device)
            yield name, distiller

    def _check_sizes(self) -> None:
        sizes = {name: getattr(each.student, "img_size", None) for name, each in self.distillers.items()}
        sizes = {name: size for name, size in sizes.items() if size is not None}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"model.students take images of different sizes ({_listed(sizes, 'px')}), and all see the same images: "
                "write one img_size for all, or give the others a run of their own"
            )
        masked = {name: each.student for name, each in self.distillers.items() if each.needs_masks and name in sizes}
        grids = {name: student.grid_for(sizes[name]) for name, student in masked.items()}
        if len(set(grids.values())) > 1:
            counts = {name: f"{height}x{width}" for name, (height, width) in grids.items()}
            raise ValueError(
                f"model.students have different grids ({_listed(counts, 'patches')}), and a run has one mask for all: "
                "write the same patch_size, or objectives that need no masks"
            )


def _checked(students: Mapping[str, dict[str, Any] | None]) -> dict[str, dict[str, Any]]:
    wanted = {name: config for name, config in students.items() if config is not None}
    if not wanted:
        raise ValueError("model.students is empty: give at least one student, or write type='Distiller' for one alone")
    keys = [name for name in inspect.signature(Distiller).parameters if name not in _SHARED]
    for name, config in wanted.items():
        # It becomes the name of a submodule, and of files beside those of averages.
        if not name.isidentifier() or hasattr(nn.ModuleDict, name) or name == "ema" or name.endswith("_ema"):
            raise ValueError(f"model.students.{name}: no name for a student; write letters and digits, such as 'small'")
        missing = [key for key in ("student", "objectives") if key not in config]
        unknown = [key for key in config if key not in keys]
        if missing or unknown:
            fault = f"has no {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
            raise ValueError(f"model.students.{name} {fault}: it takes {', '.join(keys)}")
    return wanted


@contextmanager
def _told_as(name: str) -> Iterator[None]:
    """Let what a distiller refuses be told by the keys of this model's config."""
    try:
        yield
    except (ValueError, CheckpointError) as error:
        own = r"\bmodel\.(?=(student|objectives|init_from|compile_student)\b)"
        raise type(error)(re.sub(own, f"model.students.{name}.", str(error))) from error


def _listed(values: Mapping[str, Any], unit: str) -> str:
    return ", ".join(f"{name}: {value} {unit}" for name, value in values.items())
