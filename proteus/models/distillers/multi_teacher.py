"""One student of several teachers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from proteus.checkpoints import prefix_checkpoint_errors
from proteus.models.backbones import build_backbone
from proteus.models.distillers.balance import TeacherDropping
from proteus.models.distillers.building import build_preprocessor, build_spread_teachers, build_teachers
from proteus.models.distillers.checks import check_compiled_parts, check_micro_batches, mask_parameter
from proteus.models.distillers.distiller import Distiller
from proteus.models.distillers.image_dropping import ImageDropping, image_losses, in_evaluation_mode, of_images
from proteus.models.distillers.micro_batches import MicroBatchedModel
from proteus.models.distillers.predictions import split_by_image, teacher_tokens
from proteus.models.distillers.shift import Shift
from proteus.models.distillers.student_pass import StudentOutput, run_student
from proteus.models.distillers.teacher_configs import checked_teachers, tokens_of_teacher
from proteus.models.objectives import StepFeatures
from proteus.models.teachers import Teacher, TeacherOutput
from proteus.models.teachers.spread import Request, SpreadPlan, TeacherExchange
from proteus.registry import MODELS
from proteus.utils.compile import compiled


@MODELS.register_module()
class MultiTeacherDistiller(MicroBatchedModel):
    """Distil several teachers into one student, which has separate heads for each.

    The student sees each image once, and each teacher sees the same images at its own size and with its own statistics.
    The teachers run one after the other on the device of the process, or each on one of several processes. Losses are
    ``<teacher>/loss_<objective>``, and their sum is minimised. One teacher gives the weights of :class:`Distiller`, bit
    for bit.

    Args:
        teachers: For each teacher, by name: ``teacher`` and ``objectives`` as for :class:`Distiller`, and optionally
            ``grids`` and ``standardization``, ``weight``, a factor of all its losses (1 by default), and ``drop``, the
            probability that a training step leaves the teacher out (0 by default; see :class:`TeacherDropping`).
            ``None`` drops a teacher of a base config.
        student: Config of the backbone that learns.
        data_preprocessor: Config of the data preprocessor.
        init_from: As for :class:`Distiller`.
        micro_batches: See :class:`MicroBatchedModel`.
        compile_student: As for :class:`Distiller`.
        balance: Config of factors of the teachers' losses that change while training, such as
            ``dict(type="LossMagnitudeBalance")``; by default they are the weights alone.
        image_drop: Probability that a training step leaves a teacher out of an image, unless its loss is the image's
            largest; see :class:`~proteus.models.distillers.image_dropping.ImageDropping`.
        spread_teachers: Place each teacher on one of several processes, which runs it on the images of all of them,
            for teachers that do not fit on a device together; see
            :class:`~proteus.models.teachers.spread.TeacherExchange`. It has no effect with a single process.

    Attributes:
        spread_plan: Which process holds which teacher; None if each holds all.
        key: Key of this model in the config, for messages.
        teacher_keys: Keys of a teacher's config.
        needs_masks: Whether an objective of any teacher reads masked images.
        needs_labels: Whether one reads labels.

    Raises:
        ValueError: Parts do not fit each other; the message names the keys.
        CheckpointError: Weights cannot be read, or are another model's.
    """

    teacher_keys: ClassVar[tuple[str, ...]] = ("teacher", "objectives", "grids", "standardization", "weight", "drop")
    student: Any

    def __init__(
        self,
        teachers: Mapping[str, dict[str, Any] | None],
        student: dict[str, Any],
        data_preprocessor: dict[str, Any] | None = None,
        init_from: dict[str, Any] | None = None,
        micro_batches: int = 1,
        compile_student: bool | dict[str, Any] = False,
        balance: dict[str, Any] | None = None,
        image_drop: float = 0.0,
        spread_teachers: bool = False,
    ) -> None:
        preprocessor = build_preprocessor(data_preprocessor)
        super().__init__(data_preprocessor=preprocessor, micro_batches=micro_batches)
        self.key = "model"
        configs = checked_teachers(teachers, self.teacher_keys)
        # Random weights are drawn in the order of Distiller: teachers, student, heads.
        written = {name: config["teacher"] for name, config in configs.items()}
        self.spread_teachers = spread_teachers
        self.spread_plan: SpreadPlan | None = None
        self._exchange: TeacherExchange | None = None
        if spread_teachers:
            built, self.spread_plan, self._exchange = build_spread_teachers(written, preprocessor)
        else:
            built = build_teachers(written, preprocessor)
        with prefix_checkpoint_errors("model.student.checkpoint"):
            self.student = build_backbone(student)
        self._compiled_student = compiled("model.compile_student", run_student, compile_student)
        self.init_from = None
        if init_from:
            with prefix_checkpoint_errors("model.init_from.checkpoint"):
                self.init_from = MODELS.build(init_from, default_args={"student": self.student})
        self.teachers = nn.ModuleDict()
        for name, config in configs.items():
            self.teachers[name] = Distiller(
                built[name],
                self.student,
                config["objectives"],
                preprocessor,
                grids=config.get("grids"),
                standardization=config.get("standardization"),
                key=f"model.teachers.{name}",
            )
        self.weights = {name: config.get("weight", 1.0) for name, config in configs.items()}
        dropped = {name: config.get("drop", 0.0) for name, config in configs.items()}
        self.dropping = TeacherDropping(dropped) if any(dropped.values()) else None
        self.balance = MODELS.build(balance, default_args={"names": list(configs)}) if balance else None
        self.image_dropping = ImageDropping(image_drop) if image_drop else None
        if self.image_dropping is not None:
            self.image_dropping.check(self.distillers)
        self.needs_masks = any(each.needs_masks for each in self.distillers.values())
        self.needs_labels = any(each.needs_labels for each in self.distillers.values())
        check_compiled_parts("model", micro_batches, compile_student)
        for each in self.distillers.values():
            check_micro_batches(each, micro_batches)
        token = mask_parameter(self.student)
        if token is not None and not self.needs_masks:
            token.requires_grad_(False)  # DistributedDataParallel waits for the gradient of every parameter

    @property
    def distillers(self) -> dict[str, Distiller]:
        """The pairs of the student with each teacher, by the teacher's name."""
        return dict(self.teachers.items())  # type: ignore[arg-type]

    @property
    def teachers_by_name(self) -> dict[str, Teacher]:
        """The teachers by name."""
        return {name: each.teacher for name, each in self.distillers.items()}

    def init_weights(self) -> None:
        """Do nothing: all parts have initialised themselves or loaded their weights in their constructors."""

    def forward(
        self,
        inputs: Tensor,
        data_samples: Sequence[BaseDataElement] | None = None,
        masks: Tensor | None = None,
        mask_indices: Tensor | None = None,
        labels: Tensor | None = None,
        teacher_cls: Mapping[str, Tensor] | None = None,
        teacher_patches: Mapping[str, Tensor] | None = None,
        teacher_inputs: Tensor | None = None,
        shift: Shift | None = None,
        mask_share: float | Tensor | Mapping[str, float] = 1.0,
        last_part: bool = True,
        mode: str = "tensor",
    ) -> Any:
        """Run one batch, as MMEngine's runner does.

        Args:
            inputs: ``(B, 3, H, W)``, normalised for the student.
            data_samples: As for :meth:`Distiller.forward`.
            masks: As for :meth:`Distiller.forward`.
            mask_indices: As for :meth:`Distiller.forward`.
            labels: As for :meth:`Distiller.forward`.
            teacher_cls: Cached cls tokens of some teachers by name, each as for :meth:`Distiller.forward`; the others
                run.
            teacher_patches: Likewise of patches.
            teacher_inputs: As for :meth:`Distiller.forward`.
            shift: As for :meth:`Distiller.forward`.
            mask_share: As for :meth:`Distiller.forward`, or one for each teacher by name.
            last_part: As for :meth:`Distiller.forward`.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            ``loss``: each weighted term as ``<teacher>/loss_<objective>``, of the teachers of this step. ``predict``:
            see :meth:`predict`. ``tensor``: the student's ``Features``.
        """
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode != "loss":
            return self.student(inputs)

        # 1. Teachers: cached tokens, or a pass.
        kept = self._kept(inputs)
        outputs: dict[str, TeacherOutput] = {}
        for name, each in kept.items():
            cls, patches = (tokens_of_teacher(tokens, name) for tokens in (teacher_cls, teacher_patches))
            cached = each.cached_output(inputs, cls, patches)
            if cached is not None:
                outputs[name] = cached
        missing = {name: each for name, each in kept.items() if name not in outputs}
        outputs |= self._run_teachers(missing, inputs if teacher_inputs is None else teacher_inputs)

        # 2. Student, once for all.
        run = run_student if inputs.is_meta else self._compiled_student
        masked = masks if any(each.needs_masks for each in kept.values()) else None
        student = StudentOutput(
            *run(self.student, inputs, masked, any(each.needs_hidden_states for each in kept.values()))
        )

        # 3. Objectives of each teacher, weighted; of its images alone, if some are left out.
        chosen, shares = self._chosen_images(kept, outputs, student, inputs)
        losses: dict[str, Tensor] = {}
        for name, each in kept.items():
            own = student._replace(masked=student.masked if each.needs_masks else None)
            batch = (masks, mask_indices, labels, outputs[name])
            share = mask_share[name] if isinstance(mask_share, Mapping) else mask_share
            if name in chosen:
                output, own, own_masks, own_labels = of_images(chosen[name], outputs[name], own, masks, labels)
                batch, share = (own_masks, None, own_labels, output), 1.0
            terms = each.losses(inputs, *batch, share, last_part, shift, own)
            factor = self._factor(name, torch.stack(list(terms.values())).sum()) * shares.get(name, 1.0)
            losses |= {f"{name}/{term}": factor * value for term, value in terms.items()}
        unused = self._unused(kept, masked)
        if unused:
            first = next(iter(losses))
            losses[first] = losses[first] + 0.0 * torch.stack([each.sum() for each in unused]).sum()

        if self.training and last_part and not inputs.is_meta:
            for part in (self.balance, self.dropping):
                if part is not None:
                    part.end_step()
        return losses

    def predict(self, images: Tensor, data_samples: Sequence[BaseDataElement] | None = None) -> list[dict[str, Any]]:
        """Return the tokens of each teacher and of the student, mapped to the teacher's space, image by image.

        Returns:
            As :meth:`Distiller.predict`, with ``<teacher>/teacher_cls``, ``<teacher>/student_cls`` and the like.
        """
        student = self.student(images)
        tokens: dict[str, Tensor] = {}
        outputs = self._run_teachers(self.distillers, images, hidden_states=False)
        for name, each in self.distillers.items():
            output = outputs[name]
            step = each.on_one_grid(StepFeatures(output.features, student), images)
            found = teacher_tokens(output._replace(features=step.teacher))
            found |= {f"student_{kind}": value for kind, value in each.predict_tokens(step.student).items()}
            tokens |= {f"{name}/{key}": value for key, value in found.items()}
        return split_by_image(tokens, len(images), data_samples)

    def mask_shares(self, masks: Sequence[Tensor], indices: Sequence[Tensor], images: Tensor) -> Any:
        """As for :meth:`Distiller.mask_shares`; those of each teacher by name if they differ."""
        shares = {name: each.mask_shares(masks, indices, images) for name, each in self.distillers.items()}
        first = next(iter(shares.values()))
        if all(each == first for each in shares.values()):
            return first
        return [{name: each[part] for name, each in shares.items()} for part in range(len(masks))]

    def _run_teachers(
        self, pairs: Mapping[str, Distiller], images: Tensor, hidden_states: bool = True
    ) -> dict[str, TeacherOutput]:
        """Run teachers on images, with logits and perhaps hidden states for the objectives that read them.

        Teachers of this process run one after the other; those that are spread run at the same time.
        """
        requests = {
            name: Request(each.teacher, each.needs_logits, hidden_states and each.needs_hidden_states)
            for name, each in pairs.items()
        }
        spread: dict[str, Request] = {}
        if self._exchange is not None and not images.is_meta:
            spread = {name: each for name, each in requests.items() if each.teacher.spread is not None}
        found = self._exchange.run(spread, images) if self._exchange is not None and spread else {}
        return {name: found[name] if name in found else each.encode(images) for name, each in requests.items()}

    def _kept(self, inputs: Tensor) -> dict[str, Distiller]:
        """The pairs with teachers that this step does not leave out."""
        everyone = self.distillers
        if self.dropping is None or not self.training or inputs.is_meta:
            return everyone
        return {name: everyone[name] for name in self.dropping.kept()}

    def _factor(self, name: str, loss: Tensor) -> Any:
        """The factor of a teacher's loss: its weight, and that of ``balance``."""
        return self.weights[name] if self.balance is None else self.weights[name] * self.balance(name, loss)

    def _chosen_images(
        self,
        kept: Mapping[str, Distiller],
        outputs: Mapping[str, TeacherOutput],
        student: StudentOutput,
        inputs: Tensor,
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The images of each teacher, and the factors of its losses, both by name; empty if no image is left out."""
        if self.image_dropping is None or not self.training or inputs.is_meta or len(kept) < 2:
            return {}, {}
        losses = {name: image_losses(each, outputs[name], student, inputs) for name, each in kept.items()}
        with in_evaluation_mode(self.balance):
            losses = {name: self._factor(name, loss.sum()) * loss for name, loss in losses.items()}
        return self.image_dropping.draw(losses)

    def _unused(self, kept: Mapping[str, Distiller], masks: Tensor | None) -> list[Tensor]:
        """Trained weights that this step does not use; DistributedDataParallel waits for a gradient of them."""
        if len(kept) == len(self.teachers):
            return []
        others = [each for name, each in self.distillers.items() if name not in kept]
        unused = [parameter for each in others for parameter in each.parameters()]
        token = mask_parameter(self.student)
        if masks is None and token is not None:
            unused.append(token)
        return [parameter for parameter in unused if parameter.requires_grad]
