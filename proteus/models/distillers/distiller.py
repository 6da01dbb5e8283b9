"""Teacher, student and objectives, and one training step with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from proteus.checkpoints import prefix_checkpoint_errors
from proteus.models.backbones import build_backbone
from proteus.models.backbones.features import sides_of
from proteus.models.distillers.building import build_preprocessor, build_teacher, dependencies_first
from proteus.models.distillers.checks import check_distiller, check_grids
from proteus.models.distillers.data_preprocessor import DistillDataPreprocessor
from proteus.models.distillers.grid import resample_masks
from proteus.models.distillers.grid_match import GridMatch, TeacherSizeRule, grid_of_masks, masked_indices
from proteus.models.distillers.micro_batches import MicroBatchedModel
from proteus.models.distillers.predictions import split_by_image, teacher_tokens
from proteus.models.distillers.shift import Shift
from proteus.models.distillers.student_pass import StudentOutput, run_student
from proteus.models.distillers.widths import head_widths
from proteus.models.objectives import Objective, StepFeatures, end_step, shares_of_parts
from proteus.models.standardization import Standardization
from proteus.models.teachers import Teacher, TeacherOutput
from proteus.registry import MODELS
from proteus.structures import DataError, Features
from proteus.utils.compile import compiled


@MODELS.register_module()
class Distiller(MicroBatchedModel):
    """Distil a teacher into a student with one or several objectives (paper, eq. 8).

    The student sees clean and masked images in one batch. Only images with masks are masked: in the released schedule
    the other half takes a quarter of the student's compute and reaches no loss.

    Args:
        teacher: Config of the teacher, or a teacher that several distillers share.
        student: Config of the backbone that learns, or a backbone that several distillers share.
        objectives: Configs of the objectives by name; ``None`` drops one of a base config.
        data_preprocessor: Config of the data preprocessor, or the one that several distillers share.
        init_from: Config of the initialization of the student from other weights (paper, section A.2).
        micro_batches: See :class:`MicroBatchedModel`.
        compile_student: Compile the student's part of the training step: False, True, or a dict of options of
            ``torch.compile`` (``dict(mode="max-autotune-no-cudagraphs")``). It is compiled once for each size of the
            images.
        grids: How patches of teacher and student are compared if their grids differ, ``dict(match='auto',
            mode='area')``; see :class:`~proteus.models.distillers.grid_match.GridMatch`.
        standardization: Config of a standardization of the teacher's tokens, such as
            ``dict(type="PHIStandardization")``; by default objectives compare with what the teacher gives.
        key: Key of this model in the config, for messages; :class:`MultiStudentDistiller` fills it in.

    Attributes:
        student_key: Key of the student in the config, for messages.
        teacher_key: Likewise of the teacher.
        needs_masks: Whether any objective reads masked images.
        needs_logits: Whether any objective reads the logits of the teacher's classifier.
        needs_labels: Whether any objective reads labels.
        needs_hidden_states: Whether any objective reads the residual streams of student and teacher.
        compares_patches: Whether any objective compares patch by patch.

    Raises:
        ValueError: Objectives, student and teacher do not fit each other; the message names the keys.
        CheckpointError: Weights cannot be read, or are another model's.
    """

    teacher: Teacher
    student: Any

    def __init__(
        self,
        teacher: dict[str, Any] | Teacher,
        student: dict[str, Any] | nn.Module,
        objectives: Mapping[str, dict[str, Any] | None],
        data_preprocessor: dict[str, Any] | DistillDataPreprocessor | None = None,
        init_from: dict[str, Any] | None = None,
        micro_batches: int = 1,
        compile_student: bool | dict[str, Any] = False,
        grids: dict[str, Any] | None = None,
        standardization: dict[str, Any] | None = None,
        key: str = "model",
    ) -> None:
        super().__init__(data_preprocessor=build_preprocessor(data_preprocessor), micro_batches=micro_batches)
        self.key, self.student_key, self.teacher_key = key, f"{key}.student", "model.teacher"
        if isinstance(student, nn.Module):  # one of several teachers
            self.student_key, self.teacher_key = "model.student", f"{key}.teacher"
        # In __dict__, so that it is not a submodule: never saved, optimised, averaged or broadcast.
        self.__dict__["teacher"] = build_teacher(teacher, self.data_preprocessor)
        if isinstance(student, nn.Module):
            self.__dict__["student"] = student
        else:
            with prefix_checkpoint_errors(f"{key}.student.checkpoint"):
                self.student = build_backbone(student)
        # Only the training step is compiled. As a function of the student, not a module, it leaves the keys of
        # checkpoints as they are, and validation, exports and other image sizes run uncompiled.
        self._compiled_student = compiled(f"{key}.compile_student", run_student, compile_student)
        self.init_from = None
        if init_from:
            with prefix_checkpoint_errors(f"{key}.init_from.checkpoint"):
                self.init_from = MODELS.build(init_from, default_args={"student": self.student})
        built = {
            name: MODELS.build(config, default_args=head_widths(config, self.student, self.teacher))
            for name, config in objectives.items()
            if config
        }
        self.objectives = nn.ModuleDict(dependencies_first(built))
        self.needs_masks = any(objective.needs_masks for objective in built.values())
        self.needs_logits = any(objective.needs_logits for objective in built.values())
        self.needs_labels = any(objective.needs_labels for objective in built.values())
        self.needs_hidden_states = any(objective.needs_hidden_states for objective in built.values())
        has_teacher = self.teacher.embed_dim > 0
        self.compares_patches = has_teacher and any(objective.needs_equal_grids for objective in built.values())
        self.grids = GridMatch.from_config(grids, f"{key}.grids", self.teacher_key)
        self._checked_sizes: set[tuple[int, int]] = set()
        shared = isinstance(teacher, nn.Module) and not isinstance(student, nn.Module)
        if self.compares_patches and not shared:  # else the owner of the students does this
            self.teacher.size_rule = TeacherSizeRule(self.distillers)
        self.standardization: Standardization | None = None
        if standardization:
            self.standardization = MODELS.build(standardization, default_args={"dim": self.teacher.embed_dim})
        check_distiller(self, compile_student)

    @property
    def distillers(self) -> dict[str, Distiller]:
        """The distillers of this model by the name of their student; that of a single student is empty."""
        return {"": self}

    @property
    def teachers_by_name(self) -> dict[str, Teacher]:
        """The teachers by name; that of a single teacher is empty."""
        return {"": self.teacher}

    @property
    def objectives_by_name(self) -> dict[str, Objective]:
        """The objectives in the order in which they are computed."""
        return dict(self.objectives.items())  # type: ignore[arg-type]

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
        mask_share: float | Tensor = 1.0,
        last_part: bool = True,
        mode: str = "tensor",
    ) -> Any:
        """Run one batch, as MMEngine's runner does.

        Args:
            inputs: ``(B, 3, H, W)``, normalised for the student.
            data_samples: For each image, its path and label as metainfo.
            masks: ``(M, N)`` bool, the patches to mask in the first ``M`` images.
            mask_indices: ``(K,)`` int64, the indices at which ``masks.flatten()`` is True.
            labels: Classes of the images; see :class:`StepFeatures`.
            teacher_cls: Cached cls tokens of the teacher, ``(B, Dt)`` of any float dtype. With ``teacher_patches`` they
                replace the pass of the teacher.
            teacher_patches: Cached patch tokens of the teacher, ``(B, N, Dt)``.
            teacher_inputs: Images for the teacher, if they are not the student's (``ShiftDataPreprocessor``).
            shift: Positions of both views, if they differ.
            mask_share: See :class:`StepFeatures`.
            last_part: See :meth:`losses`.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            ``loss``: see :meth:`losses`. ``predict``: see :meth:`predict`. ``tensor``: the student's ``Features``.
        """
        if mode == "loss":
            cached = self.cached_output(inputs, teacher_cls, teacher_patches)
            if cached is None and teacher_inputs is not None:
                cached = self.run_teacher(teacher_inputs)
            return self.losses(inputs, masks, mask_indices, labels, cached, mask_share, last_part, shift)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        return self.student(inputs)

    def losses(
        self,
        images: Tensor,
        masks: Tensor | None = None,
        mask_indices: Tensor | None = None,
        labels: Tensor | None = None,
        teacher_output: TeacherOutput | None = None,
        mask_share: float | Tensor = 1.0,
        last_part: bool = True,
        shift: Shift | None = None,
        student_output: StudentOutput | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss of one training step (shapes as in :meth:`forward`).

        Args:
            images: Normalised images.
            masks: Patches to mask.
            mask_indices: Indices of the masked patches.
            labels: Classes of the images.
            teacher_output: What :meth:`run_teacher` returns for these images, if it is known.
            mask_share: Weight of the masked patches of this part of the batch.
            last_part: Whether these images are the last of the step (:func:`~proteus.models.objectives.end_step`).
            shift: Positions of the views of teacher and student; ``mask_indices`` then count the common patches only.
            student_output: What :meth:`run_student` returns for these images, if it is known.

        Returns:
            Each objective's weighted term as ``loss_<name>``, a scalar in float32. MMEngine adds them up.
        """
        # 1. Teacher: features of the clean images, and what else an objective reads.
        teacher, teacher_logits, teacher_hidden = teacher_output or self.run_teacher(images)
        teacher = self.targets(teacher)

        # 2. Student: clean and masked images in one batch.
        if masks is not None and mask_indices is None:
            mask_indices = masked_indices(masks)
        student, masked, hidden = student_output or self.run_student(images, masks)

        # 3. Objectives: one unweighted term each; some reuse an earlier term. Those that compare patches get them on
        # one grid.
        step = StepFeatures(
            teacher, student, masked, mask_indices, teacher_logits, labels, mask_share, teacher_hidden, hidden
        )
        aligned = self.on_one_grid(step, images, masks, shift is not None)
        self._check_grids(images)
        if shift is not None:
            step = aligned = shift.restrict(aligned)
        terms: dict[str, Tensor] = {}
        for name, objective in self.objectives_by_name.items():
            terms[name] = objective(aligned if objective.needs_equal_grids else step, terms)

        if self.training and last_part and not images.is_meta:
            end_step(self.objectives)
            if self.standardization is not None:
                self.standardization.end_step()

        # 4. Weighted terms.
        losses = {f"loss_{name}": objective.weight * terms[name] for name, objective in self.objectives_by_name.items()}
        if self.training and get_world_size() > 1:
            # DistributedDataParallel waits for the gradient of every parameter, also in layers that no objective reads.
            first = next(iter(losses))
            losses[first] = losses[first] + 0.0 * (student.cls.sum() + student.patches.sum())
        return losses

    def run_teacher(self, images: Tensor) -> TeacherOutput:
        """Run the teacher on images ``(B, 3, H, W)`` that are normalised for the student."""
        return self.teacher.encode(images, self.needs_logits, self.needs_hidden_states)

    def run_student(self, images: Tensor, masks: Tensor | None) -> StudentOutput:
        """Run the student on images ``(B, 3, H, W)`` with all that the objectives read; masks as in :meth:`forward`."""
        # There is nothing to compile for on the meta device.
        run = run_student if images.is_meta else self._compiled_student
        return StudentOutput(*run(self.student, images, masks if self.needs_masks else None, self.needs_hidden_states))

    def targets(self, teacher: Features) -> Features:
        """What the objectives compare with: the teacher's features, standardised if the config says so."""
        return teacher if self.standardization is None else self.standardization(teacher)

    def cached_output(self, images: Tensor, cls: Tensor | None, patches: Tensor | None) -> TeacherOutput | None:
        """The teacher's output from cached tokens; None if the batch has none.

        Raises:
            ValueError: An objective reads logits or hidden states, which are not cached.
            DataError: The tokens lie on another grid than the teacher has.
        """
        if cls is None or patches is None:
            return None
        needing = [
            name for name, each in self.objectives_by_name.items() if each.needs_logits or each.needs_hidden_states
        ]
        if needing:
            raise ValueError(
                f"objectives {needing} read the teacher's logits or hidden states, and the batch has only its cached "
                "tokens: remove these objectives, or train without the teacher's cached tokens"
            )
        grid = self.teacher.grid_for(sides_of(images))
        if patches.shape[1] != grid[0] * grid[1]:
            raise DataError(
                f"the teacher's cached tokens are {patches.shape[1]} patches of an image, and {self.teacher_key} "
                f"makes {grid[0]}x{grid[1]} of it: build the cache again for this config, or set "
                "train_dataloader.dataset.cache=None"
            )
        return TeacherOutput(Features(cls.float(), patches.float(), grid))

    def predict(self, images: Tensor, data_samples: Sequence[BaseDataElement] | None = None) -> list[dict[str, Any]]:
        """Return the tokens of teacher and student, image by image.

        Returns:
            For each image its metainfo with ``teacher_cls`` and ``student_cls`` ``(Dt,)``, ``teacher_patches`` and
            ``student_patches`` ``(N, Dt)`` on one grid, ``teacher_logits`` and ``student_logits`` ``(C,)``; the
            student's, and any logits, only if an objective has a head for them.
        """
        output, student = self.teacher.encode(images, self.needs_logits), self.student(images)
        step = self.on_one_grid(StepFeatures(output.features, student), images)
        tokens = {f"student_{kind}": value for kind, value in self.predict_tokens(step.student).items()}
        output = output._replace(features=step.teacher)
        return split_by_image({**teacher_tokens(output), **tokens}, len(images), data_samples)

    def predict_tokens(self, student: Features) -> dict[str, Tensor]:
        """Map the student's tokens of clean images to the teacher's space.

        If several objectives have a head for the same tokens, the first one maps them.

        Returns:
            ``cls`` ``(B, Dt)``, ``patches`` ``(B, N, Dt)`` and / or ``logits`` ``(B, C)`` in float32.
        """
        predicted: dict[str, Tensor] = {}
        for objective in self.objectives_by_name.values():
            predicted = {**objective.predict(student), **predicted}
        if self.standardization is not None:
            predicted |= {
                kind: self.standardization.restore(kind, value.float())
                for kind, value in predicted.items()
                if kind != "logits"
            }
        return {kind: value.float() for kind, value in predicted.items()}

    def on_one_grid(
        self, step: StepFeatures, images: Tensor, masks: Tensor | None = None, shifted: bool = False
    ) -> StepFeatures:
        """Bring the patches of a step to the grid on which objectives compare them.

        Args:
            step: Features of teacher and student.
            images: The images.
            masks: Masks of ``step.masked``, if there is one.
            shifted: See :meth:`~proteus.models.distillers.grid_match.GridMatch.on_one_grid`.

        Returns:
            ``step`` itself if no objective compares patches, or the grids are equal.
        """
        if not self.compares_patches:
            return step
        masks = None if step.masked is None else masks
        mask_grid = None if masks is None or shifted else grid_of_masks(masks, step.student.grid, images)
        return self.grids.on_one_grid(step, masks, mask_grid, shifted)

    def masks_of_student(self, masks: Tensor, images: Tensor) -> Tensor:
        """Return masks ``(M, n)`` on the student's grid: ``masks`` itself if they are, or no objective reads them.

        Students with different grids share the masks of one pipeline.
        """
        if not self.needs_masks:
            return masks
        grid = self.student.grid_for(sides_of(images))
        return resample_masks(masks, grid_of_masks(masks, grid, images), grid)

    def describe_grids(self, size: tuple[int, int]) -> str | None:
        """Say in one line how patches are matched for images of a size; None if nothing has to be done."""
        if not self.compares_patches:
            return None
        return self.grids.describe(self.student, self.teacher, size, hasattr(self.data_preprocessor, "shift"))

    def mask_shares(self, masks: Sequence[Tensor], indices: Sequence[Tensor], images: Tensor) -> Any:
        """Shares of the parts of a batch among the masked patches of the grid on which patches are compared."""
        size = sides_of(images)
        student, teacher = self.student.grid_for(size), self.teacher.grid_for(size)
        common, own = self.grids.common(student, teacher), grid_of_masks(masks[0], student, images)
        if not self.compares_patches or common == own or not len(masks[0]):
            return super().mask_shares(masks, indices, images)
        return shares_of_parts([int(resample_masks(part, own, common).sum()) for part in masks])

    def _check_grids(self, images: Tensor) -> None:
        """Check and log how grids are matched, once for each size of the images."""
        size = sides_of(images)
        if size in self._checked_sizes or images.is_meta:
            return
        check_grids(self, size)
        self._checked_sizes.add(size)
        described = self.describe_grids(size)
        if described:
            print_log(f"{self.grids.key}: {described}", logger="current")

    def train(self, mode: bool = True) -> Distiller:
        """Switch to training or evaluation mode, with the student."""
        # That of several teachers is not a submodule, so it follows its distiller here.
        self.student.train(mode)
        super().train(mode)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distiller:
        # The teacher is not a submodule, so it follows the student to its device here.
        super()._apply(fn, recurse)
        device = next(self.student.parameters()).device
        if device != self.teacher.scale.device:
            self.teacher.to_device(device)
        return self
