"""Teacher, student and objectives, and one training step with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError
from proteus.models.backbones import build_backbone
from proteus.models.distillers.micro_batches import MicroBatchedModel
from proteus.models.objectives import Objective, StepFeatures
from proteus.models.objectives.objective import check_head
from proteus.models.teachers import Teacher
from proteus.registry import MODELS
from proteus.structures import Features, UserError
from proteus.utils.compile import compiled


@MODELS.register_module()
class Distiller(MicroBatchedModel):
    """Distil a teacher into a student under one or several objectives (paper, eq. 8).

    The student sees clean and masked images in one batch, and only those images are masked whose masks count
    (in the released schedule the others take a quarter of the student's compute and reach no loss).

    Args:
        teacher: Config of the teacher.
        student: Config of the backbone that learns.
        objectives: Configs of the objectives by name; ``None`` drops one that a base config has.
        data_preprocessor: Config of the data preprocessor.
        init_from: Config of where the student's first weights come from, if they are not random (paper, section A.2).
        micro_batches: See :class:`MicroBatchedModel`.
        compile_student: Compile the student's part of the training step: False, True, or a dict of ``torch.compile``'s
            options (``dict(mode="max-autotune-no-cudagraphs")``). All steps have one size, so it is done once.

    Raises:
        ValueError: Objectives, student and teacher do not fit each other; the message names the keys.
    """

    teacher: Teacher
    student: Any

    def __init__(
        self,
        teacher: dict[str, Any],
        student: dict[str, Any],
        objectives: Mapping[str, dict[str, Any] | None],
        data_preprocessor: dict[str, Any] | None = None,
        init_from: dict[str, Any] | None = None,
        micro_batches: int = 1,
        compile_student: bool | dict[str, Any] = False,
    ) -> None:
        # Built here: MMEngine would look the name up in its own registry where no default scope is set.
        preprocessor = MODELS.build(data_preprocessor or {"type": "DistillDataPreprocessor"})
        super().__init__(data_preprocessor=preprocessor, micro_batches=micro_batches)
        statistics = {
            "input_mean": self.data_preprocessor.channel_mean,
            "input_std": self.data_preprocessor.channel_std,
        }
        # Not a submodule: what is no submodule cannot be saved, optimised, averaged or broadcast.
        self.__dict__["teacher"] = _build("model.teacher.", teacher, **statistics)
        self.student = _build("model.student.checkpoint: ", student, build=build_backbone)
        self._check_graphs(compile_student)
        # A function of the student and no module: checkpoints keep their keys, an average is one of the plain student,
        # and what else is asked of it (validation, exports, other sizes) is not compiled anew.
        self._encoder = compiled("model.compile_student", _clean_and_masked, compile_student)
        self.init_from = _build("model.init_from.checkpoint: ", init_from, student=self.student) if init_from else None
        widths = {"student_dim": self.student.embed_dim, "teacher_dim": self.teacher.embed_dim}
        self.objectives = nn.ModuleDict(
            {name: MODELS.build(config, default_args=widths) for name, config in objectives.items() if config}
        )
        self.needs_masks = any(objective.needs_masks for objective in self._objectives.values())
        self.needs_logits = any(objective.needs_logits for objective in self._objectives.values())
        self.needs_labels = any(objective.needs_labels for objective in self._objectives.values())
        self._check_objectives()
        self._check_teacher()
        self._check_grids()
        self._check_mask_token()

    @property
    def _objectives(self) -> dict[str, Objective]:
        return dict(self.objectives.items())  # type: ignore[arg-type]

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
            images: ``(B, 3, H, W)``, normalised for the student.
            masks: ``(M, N)`` bool, the patches to mask in the first ``M`` images.
            mask_indices: ``(K,)`` int64, where ``masks.flatten()`` is True.
            metas: For each image, where it comes from.
            labels: Classes ``(B,)`` int64, or shares of classes ``(B, C)``, where the data set has labels.
            teacher_cls: ``(B, Dt)``, what the teacher makes of these images, of any float dtype; a step that is given
                it with ``teacher_patches`` does not run the teacher.
            teacher_patches: ``(B, N, Dt)``, likewise.
            mask_share: Weight of this batch's masked patches, where it is a part of a larger one: 1 if all parts have
                equally many (see :class:`StepFeatures`).
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            ``loss``: each objective's weighted term as ``loss_<name>``. ``predict``: for each image the tokens of
            teacher and student in the teacher's width, and their class scores. ``tensor``: the student's ``Features``.
        """
        if mode == "loss":
            taught = None
            if teacher_cls is not None and teacher_patches is not None:
                taught = self._as_taught(images, teacher_cls, teacher_patches)
            return self.losses(images, masks, mask_indices, labels, taught, mask_share)
        if mode == "predict":
            return self.agreement(images, metas or [{} for _ in images])
        return self.student(images)

    def losses(
        self,
        images: Tensor,
        masks: Tensor | None,
        mask_indices: Tensor | None,
        labels: Tensor | None = None,
        taught: tuple[Features, Tensor | None] | None = None,
        mask_share: float | Tensor = 1.0,
    ) -> dict[str, Tensor]:
        """One step's weighted terms (shapes as in :meth:`forward`).

        Args:
            images: As for :meth:`forward`.
            masks: Likewise.
            mask_indices: Likewise.
            labels: Likewise.
            taught: What :meth:`teach` returns for these images, where the teacher has seen them already.
            mask_share: As for :meth:`forward`.

        Returns:
            The terms as ``loss_<name>``, scalars in float32.
        """
        teacher, logits = self.teach(images) if taught is None else taught
        student, masked = self._encode(images, masks, teacher.grid)
        views = StepFeatures(teacher, student, masked, mask_indices, logits, labels, mask_share)
        terms: dict[str, Tensor] = {}
        # Those that take up another's term come last, wherever they stand: MMEngine sorts the configs that it writes.
        for name, objective in sorted(self._objectives.items(), key=lambda item: item[1].cls_term is not None):
            terms[name] = objective(views, terms)
        return {f"loss_{name}": objective.weight * terms[name] for name, objective in self._objectives.items()}

    def teach(self, images: Tensor) -> tuple[Features, Tensor | None]:
        """Run the teacher.

        Args:
            images: ``(B, 3, H, W)``, normalised for the student.

        Returns:
            Its features of the images, and its classifier's logits ``(B, C)`` where an objective asks for them.
        """
        return self.teacher.classify(images) if self.needs_logits else (self.teacher(images), None)

    def _encode(
        self, images: Tensor, masks: Tensor | None, teacher_grid: tuple[int, int]
    ) -> tuple[Features, Features | None]:
        # The meta device, on which a config is checked, has nothing to compile for.
        encode = _clean_and_masked if images.is_meta else self._encoder
        clean, masked = encode(self.student, images, masks if self.needs_masks else None)
        if masked is None:
            self.match_grids(images.shape[-1], clean.grid, teacher_grid)
        return clean, masked

    def _as_taught(self, images: Tensor, cls: Tensor, patches: Tensor) -> tuple[Features, None]:
        if self.needs_logits:
            needing = [name for name, objective in self._objectives.items() if objective.needs_logits]
            raise ValueError(
                f"objectives {needing} read the teacher's logits, and the batch brings its tokens alone: remove these "
                "objectives, or train without the teacher's cached tokens"
            )
        return Features(cls.float(), patches.float(), self.teacher.grid_for(images.shape[-1])), None

    def agreement(self, images: Tensor, metas: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Tokens of teacher and student, image by image.

        Returns:
            For each image its meta with ``teacher_cls`` and ``student_cls`` ``(Dt,)``, ``teacher_patches`` and
            ``student_patches`` ``(N, Dt)``, ``teacher_logits`` and ``student_logits`` ``(C,)``; the student's, and
            any logits, only where an objective has a head for them.
        """
        (teacher, logits), student = self.teach(images), self.student(images)
        tokens = {"teacher_cls": teacher.cls, "teacher_patches": teacher.patches}
        tokens |= {} if logits is None else {"teacher_logits": logits}
        tokens |= {f"student_{kind}": value for kind, value in self.predict_tokens(student).items()}
        return [{**meta, **{key: value[i] for key, value in tokens.items()}} for i, meta in enumerate(metas)]

    def predict_tokens(self, student: Features) -> dict[str, Tensor]:
        """Map the student's tokens of clean images to the teacher's space.

        Where several objectives have a head for the same tokens, the first in the config is taken.

        Returns:
            ``cls`` ``(B, Dt)``, ``patches`` ``(B, N, Dt)`` and / or ``logits`` ``(B, C)`` in float32.
        """
        predicted: dict[str, Tensor] = {}
        for objective in self._objectives.values():
            predicted = {**objective.predict(student), **predicted}
        return {kind: value.float() for kind, value in predicted.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distiller:
        super()._apply(fn, recurse)
        device = next(self.student.parameters()).device
        if device != self.teacher.scale.device:
            self.teacher.to_device(device)
        return self

    def _check_graphs(self, compile_student: bool | Mapping[str, Any]) -> None:
        mode = compile_student.get("mode") if isinstance(compile_student, Mapping) else None
        if self.micro_batches > 1 and mode in ("reduce-overhead", "max-autotune"):
            raise ValueError(
                f"model.compile_student.mode={mode!r} makes CUDA graphs, whose memory the next of model.micro_batches="
                f"{self.micro_batches} would overwrite while its gradients are still needed: write "
                "mode='max-autotune-no-cudagraphs', or micro_batches=1"
            )

    def _check_objectives(self) -> None:
        names = list(self.objectives)
        if not names:
            raise ValueError("model.objectives is empty: give at least one objective")
        own = [name for name in names if self._objectives[name].cls_term is None]
        for name, objective in self._objectives.items():
            if objective.cls_term is not None and objective.cls_term not in own:
                raise ValueError(
                    f"model.objectives.{name}.cls_term={objective.cls_term!r} is no objective with a term of its own "
                    f"({', '.join(own) or 'there is none'}): name one, or write cls_term=None for a second head"
                )

    def _check_teacher(self) -> None:
        for name, objective in self._objectives.items():
            if objective.needs_teacher and self.teacher.embed_dim == 0:
                raise ValueError(
                    f"model.objectives.{name} needs a teacher, and model.teacher is {type(self.teacher).__name__}: "
                    "give one, or keep only objectives on labels"
                )
            if objective.needs_logits and self.teacher.classifier is None:
                raise ValueError(
                    f"model.objectives.{name} needs a teacher that classifies: set model.teacher.classifier, for "
                    "instance dict(type='LinearClassifier', checkpoint='checkpoints/dinov2_vitb14_linear4_head.pth')"
                )
            classes = getattr(self.teacher.classifier, "num_classes", None)
            if objective.needs_logits and classes != objective.num_classes:
                raise ValueError(
                    f"model.objectives.{name}.num_classes={objective.num_classes}, but model.teacher.classifier has "
                    f"{classes} classes: make them equal"
                )
            for head in objective.mapped.values():
                check_head(f"model.objectives.{name}.head", head, self.student.embed_dim, self.teacher.embed_dim)

    def _check_grids(self) -> None:
        size = getattr(self.student, "img_size", None)
        if size is not None:  # one that takes any size is asked at the first step
            self.match_grids(size, self.student.grid_for(size), self.teacher.grid_for(size))

    def match_grids(self, size: int, student: tuple[int, int], teacher: tuple[int, int]) -> None:
        """Compare the grids of patches where an objective compares patch by patch.

        Args:
            size: Side of the images in pixels.
            student: ``(h, w)`` of the student.
            teacher: ``(h, w)`` of the teacher.

        Raises:
            UserError: The grids differ; the message names what to change.
        """
        needing = [name for name, objective in self._objectives.items() if objective.needs_equal_grids]
        if not needing or student == teacher:
            return
        patch = getattr(self.teacher.backbone, "patch_size", None)
        remedy = f"set model.teacher.img_size={student[0] * patch}, or " if patch else ""
        raise UserError(
            f"model.student has {student[0]}x{student[1]} patches ({size} px{_patch(self.student)}) and model.teacher "
            f"{teacher[0]}x{teacher[1]} ({self.teacher.img_size or size} px{_patch(self.teacher.backbone)}), but "
            f"objectives {needing} compare patch by patch: {remedy}keep only objectives of the cls token"
        )

    def _check_mask_token(self) -> None:
        token = getattr(self.student, "mask_token", None)
        if self.needs_masks and token is None:
            raise ValueError(
                f"objectives {[n for n, o in self._objectives.items() if o.needs_masks]} need a student that can mask: "
                "set model.student.mask_token=True"
            )
        if token is not None and not self.needs_masks:
            # DistributedDataParallel waits for the gradient of every parameter that asks for one.
            token.requires_grad_(False)


def _clean_and_masked(student: Any, images: Tensor, masks: Tensor | None) -> tuple[Features, Features | None]:
    if masks is None:
        return student(images), None
    if hasattr(student, "clean_and_masked"):
        return student.clean_and_masked(images, masks)
    batch, masked = len(images), len(masks)
    clean = masks.new_zeros(batch, masks.shape[1])
    both = student(torch.cat([images, images[:masked]]), torch.cat([clean, masks]))
    return both[:batch], both[batch:]


def _build(prefix: str, config: dict[str, Any], build: Callable[..., Any] | None = None, **defaults: Any) -> Any:
    try:
        return build(config) if build else MODELS.build(config, default_args=defaults)
    except CheckpointError as error:
        raise CheckpointError(f"{prefix}{error}") from error


def _patch(backbone: Any) -> str:
    size = getattr(backbone, "patch_size", None)
    return f", patch {size}" if size else ""
