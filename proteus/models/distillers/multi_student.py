"""Several students of one teacher, in one run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from proteus.models.backbones.features import sides_of
from proteus.models.distillers.building import build_preprocessor, build_teacher
from proteus.models.distillers.checks import check_compiled_parts, check_grids, check_micro_batches
from proteus.models.distillers.distiller import Distiller
from proteus.models.distillers.grid_match import TeacherSizeRule, masked_indices
from proteus.models.distillers.micro_batches import MicroBatchedModel
from proteus.models.distillers.predictions import split_by_image, teacher_tokens
from proteus.models.distillers.shift import Shift
from proteus.models.objectives import StepFeatures
from proteus.models.teachers import Teacher, TeacherOutput
from proteus.registry import MODELS

_WEIGHTS = ("ema", "plain", "heads")
_SHARED = ("teacher", "data_preprocessor", "micro_batches", "key")


@MODELS.register_module()
class MultiStudentDistiller(MicroBatchedModel):
    """Distil a teacher into several students on the same images, with one pass of the teacher for all.

    Each student learns as in a run with it alone and the same seed: it starts from the same random weights, draws the
    same numbers in each step (with ``SeedEachStepHook``), and has its own losses, ``<name>.loss_<objective>``. One
    optimizer is shared; this matters only for clipping by the global norm and for gradient scaling.

    Args:
        teacher: Config of the teacher.
        students: For each student, by name, arguments of :class:`Distiller`: ``student``, ``objectives`` and optionally
            ``init_from``, ``compile_student``, ``grids`` and ``standardization``. ``None`` drops one of a base config.
        data_preprocessor: Config of the data preprocessor.
        micro_batches: See :class:`MicroBatchedModel`.

    Raises:
        ValueError: Parts do not fit each other; the message names the keys.
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
        preprocessor = build_preprocessor(data_preprocessor)
        super().__init__(data_preprocessor=preprocessor, micro_batches=micro_batches)
        configs = _checked(students)
        shared = build_teacher(teacher, preprocessor)
        self.__dict__["teacher"] = shared  # not a submodule, as in Distiller
        self._random_states: dict[str, tuple[Tensor, Tensor | None]] = {}
        # Each student's weights are drawn from the random state that a run with one student has at this point.
        state = torch.get_rng_state()
        self.students = nn.ModuleDict()
        for name, config in configs.items():
            torch.set_rng_state(state)
            self.students[name] = Distiller(
                shared, **config, data_preprocessor=preprocessor, key=f"model.students.{name}"
            )
            check_micro_batches(self.students[name], micro_batches)  # type: ignore[arg-type]
            check_compiled_parts(f"model.students.{name}", micro_batches, config.get("compile_student", False))
        if any(each.compares_patches for each in self.distillers.values()):
            shared.size_rule = TeacherSizeRule(self.distillers)
        self._check_sizes()

    @property
    def distillers(self) -> dict[str, Distiller]:
        """The distillers by the name of their student; they share the teacher."""
        return dict(self.students.items())  # type: ignore[arg-type]

    @property
    def teachers_by_name(self) -> dict[str, Teacher]:
        """The teachers by name; that of a single teacher is empty."""
        return {"": self.teacher}

    def init_weights(self) -> None:
        """Do nothing: all parts have initialised themselves or loaded their weights in their constructors."""

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        masks: Tensor | None = None,
        mask_indices: Tensor | None = None,
        labels: Tensor | None = None,
        teacher_cls: Tensor | None = None,
        teacher_patches: Tensor | None = None,
        teacher_inputs: Tensor | None = None,
        shift: Shift | None = None,
        mask_share: float | Tensor | Mapping[str, float] = 1.0,
        last_part: bool = True,
        mode: str = "tensor",
    ) -> Any:
        """Run one batch, as MMEngine's runner does.

        Args:
            inputs: ``(B, 3, H, W)``, normalised for the students.
            data_samples: As for :meth:`Distiller.forward`.
            masks: As for :meth:`Distiller.forward`.
            mask_indices: As for :meth:`Distiller.forward`.
            labels: As for :meth:`Distiller.forward`.
            teacher_cls: As for :meth:`Distiller.forward`.
            teacher_patches: As for :meth:`Distiller.forward`.
            teacher_inputs: As for :meth:`Distiller.forward`.
            shift: As for :meth:`Distiller.forward`.
            mask_share: As for :meth:`Distiller.forward`, or one for each student by name.
            last_part: As for :meth:`Distiller.forward`.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            ``loss``: each weighted term as ``<student>.loss_<objective>``. ``predict``: see :meth:`predict`.
            ``tensor``: the ``Features`` of each student by its name.
        """
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode != "loss":
            return {name: distiller.student(inputs) for name, distiller in self.distillers.items()}
        cached = [each.cached_output(inputs, teacher_cls, teacher_patches) for each in self.distillers.values()]
        teacher_output = cached[0] or self.run_teacher(inputs if teacher_inputs is None else teacher_inputs)
        losses: dict[str, Tensor] = {}
        for name, distiller in self._with_same_random_state(inputs, last_part):
            own = None if masks is None else self._masks_of(distiller, masks, inputs)
            indices = mask_indices if own is masks else None
            share = mask_share[name] if isinstance(mask_share, Mapping) else mask_share
            terms = distiller.losses(inputs, own, indices, labels, teacher_output, share, last_part, shift)
            losses |= {f"{name}.{term}": value for term, value in terms.items()}
        return losses

    def run_teacher(self, images: Tensor) -> TeacherOutput:
        """Run the teacher once, with all that any student's objectives read (see :meth:`Distiller.run_teacher`)."""
        hidden_states = any(each.needs_hidden_states for each in self.distillers.values())
        return self.teacher.encode(images, self._needs_logits, hidden_states)

    def predict(self, images: Tensor, data_samples: Sequence[BaseDataElement] | None = None) -> list[dict[str, Any]]:
        """Return the tokens of the teacher and of each student, image by image.

        Returns:
            As :meth:`Distiller.predict`, with ``<name>.student_cls`` and the like for each student, and
            ``<name>.teacher_patches`` where its patches are compared on another grid than the teacher's.
        """
        output = self.teacher.encode(images, self._needs_logits)
        tokens = teacher_tokens(output)
        for name, distiller in self.distillers.items():
            step = distiller.on_one_grid(StepFeatures(output.features, distiller.student(images)), images)
            predicted = distiller.predict_tokens(step.student)
            tokens |= {f"{name}.student_{kind}": value for kind, value in predicted.items()}
            if step.teacher is not output.features:
                tokens[f"{name}.teacher_patches"] = step.teacher.patches
        return split_by_image(tokens, len(images), data_samples)

    def mask_shares(self, masks: Sequence[Tensor], indices: Sequence[Tensor], images: Tensor) -> Any:
        """As for :meth:`Distiller.mask_shares`; those of each student by name if they differ."""
        shares = {}
        for name, distiller in self.distillers.items():
            own = [self._masks_of(distiller, part, images) for part in masks]
            pairs = zip(own, masks, indices, strict=True)
            counted = [index if part is drawn else masked_indices(part) for part, drawn, index in pairs]
            shares[name] = distiller.mask_shares(own, counted, images)
        first = next(iter(shares.values()))
        if all(each == first for each in shares.values()):
            return first
        return [{name: each[part] for name, each in shares.items()} for part in range(len(masks))]

    def _masks_of(self, distiller: Distiller, masks: Tensor, images: Tensor) -> Tensor:
        """Masks on the grid of one of the students; others than any student's are an error of its backbone."""
        size = sides_of(images)
        grids = [each.student.grid_for(size) for each in self.distillers.values() if each.needs_masks]
        if masks.shape[1] not in [math.prod(grid) for grid in grids]:
            return masks
        return distiller.masks_of_student(masks, images)

    @property
    def _needs_logits(self) -> bool:
        return any(each.needs_logits for each in self.distillers.values())

    def _parts(self, data: dict[str, Any]) -> list[dict[str, Any]]:
        self._random_states.clear()  # those of a step that was interrupted
        return super()._parts(data)

    def _with_same_random_state(self, images: Tensor, last_part: bool) -> Iterator[tuple[str, Distiller]]:
        """Iterate over the students; each draws the random numbers (for drop path) that it would draw alone.

        In a later part of the step it continues from its state after the part before.
        """
        first = _random_state(images)
        for name, distiller in self.distillers.items():
            state, state_of_device = self._random_states.pop(name, first)
            torch.set_rng_state(state)
            if state_of_device is not None:
                torch.cuda.set_rng_state(state_of_device, images.device)
            yield name, distiller
            if not last_part:
                self._random_states[name] = _random_state(images)

    def _check_sizes(self) -> None:
        found = {name: getattr(each.student, "img_size", None) for name, each in self.distillers.items()}
        sizes: dict[str, int] = {name: size for name, size in found.items() if size is not None}
        if len(set(sizes.values())) > 1:
            raise ValueError(
                f"model.students take images of different sizes ({_listed(sizes, 'px')}), and all see the same images: "
                "write one img_size for all, or train the others in another run"
            )
        for name, size in sizes.items():
            check_grids(self.distillers[name], (size, size))


def _random_state(images: Tensor) -> tuple[Tensor, Tensor | None]:
    """The states of torch's generators on the CPU and, if it is a GPU, on the device of the images."""
    return torch.get_rng_state(), torch.cuda.get_rng_state(images.device) if images.is_cuda else None


def _checked(students: Mapping[str, dict[str, Any] | None]) -> dict[str, dict[str, Any]]:
    configs = {name: config for name, config in students.items() if config is not None}
    if not configs:
        raise ValueError(
            "model.students is empty: give at least one student, or write type='Distiller' for a single one"
        )
    keys = [name for name in inspect.signature(Distiller).parameters if name not in _SHARED]
    for name, config in configs.items():
        # The name becomes that of a submodule, and part of file names, where these endings mark kinds of weights.
        if not name.isidentifier() or hasattr(nn.ModuleDict, name) or name.rpartition("_")[2] in _WEIGHTS:
            raise ValueError(
                f"model.students.{name}: not a valid name for a student; write letters and digits, such as 'small'"
            )
        missing = [key for key in ("student", "objectives") if key not in config]
        unknown = [key for key in config if key not in keys]
        if missing or unknown:
            fault = f"has no {missing[0]!r}" if missing else f"has an unknown key {unknown[0]!r}"
            raise ValueError(f"model.students.{name} {fault}: it takes {', '.join(keys)}")
    return configs


def _listed(values: Mapping[str, Any], unit: str) -> str:
    return ", ".join(f"{name}: {value} {unit}" for name, value in values.items())
