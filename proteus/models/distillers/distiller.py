"""Teacher, student and objectives, and one training step with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from proteus.checkpoints import CheckpointError
from proteus.models.objectives import Objective, Views
from proteus.models.teachers import Teacher
from proteus.registry import MODELS
from proteus.structures import Features


@MODELS.register_module()
class Distiller(BaseModel):
    """Distil a teacher into a student under one or several objectives (eq. 8).

    The student sees clean and masked images in one batch, and only those images are masked whose masks count
    (in the released schedule the others take a quarter of the student's compute and reach no loss).

    Args:
        teacher: Config of the teacher.
        student: Config of the backbone that learns.
        objectives: Configs of the objectives by name; ``None`` drops one that a base config has.
        data_preprocessor: Config of the data preprocessor.

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
    ) -> None:
        # Built here: MMEngine would look the name up in its own registry where no default scope is set.
        super().__init__(data_preprocessor=MODELS.build(data_preprocessor or {"type": "DistillDataPreprocessor"}))
        statistics = {
            "input_mean": self.data_preprocessor.channel_mean,
            "input_std": self.data_preprocessor.channel_std,
        }
        # Not a submodule: what is no submodule cannot be saved, optimised, averaged or broadcast.
        self.__dict__["teacher"] = _build("model.teacher.backbone", teacher, **statistics)
        self.student = _build("model.student", student)
        widths = {"student_dim": self.student.embed_dim, "teacher_dim": self.teacher.embed_dim}
        self.objectives = nn.ModuleDict(
            {name: MODELS.build(config, default_args=widths) for name, config in objectives.items() if config}
        )
        self.needs_masks = any(objective.needs_masks for objective in self._objectives.values())
        self._check_objectives()
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
        mode: str = "tensor",
    ) -> Any:
        """Run one batch, as MMEngine's runner does.

        Args:
            images: ``(B, 3, H, W)``, normalised for the student.
            masks: ``(M, N)`` bool, the patches to mask in the first ``M`` images.
            mask_indices: ``(K,)`` int64, where ``masks.flatten()`` is True.
            metas: For each image, where it comes from.
            mode: ``loss``, ``predict`` or ``tensor``.

        Returns:
            ``loss``: each objective's weighted term as ``loss_<name>``. ``predict``: for each image the tokens of
            teacher and student in the teacher's width. ``tensor``: the student's ``Features``.
        """
        if mode == "loss":
            return self.losses(images, masks, mask_indices)
        if mode == "predict":
            return self.agreement(images, metas or [{} for _ in images])
        return self.student(images)

    def losses(self, images: Tensor, masks: Tensor | None, mask_indices: Tensor | None) -> dict[str, Tensor]:
        """One step's weighted terms (shapes as in :meth:`forward`)."""
        views = self._views(images, masks, mask_indices)
        terms: dict[str, Tensor] = {}
        # Those that take up another's term come last, wherever they stand: MMEngine sorts the configs that it writes.
        for name, objective in sorted(self._objectives.items(), key=lambda item: item[1].cls_term is not None):
            terms[name] = objective(views, terms)
        return {f"loss_{name}": objective.weight * terms[name] for name, objective in self._objectives.items()}

    def _views(self, images: Tensor, masks: Tensor | None, mask_indices: Tensor | None) -> Views:
        teacher = self.teacher(images)
        if not self.needs_masks or masks is None:
            return Views(teacher, self.student(images))
        batch, masked = len(images), len(masks)
        clean = masks.new_zeros(batch, masks.shape[1])
        both = self.student(torch.cat([images, images[:masked]]), torch.cat([clean, masks]))
        return Views(teacher, both[:batch], both[batch:], mask_indices)

    def agreement(self, images: Tensor, metas: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Tokens of teacher and student, image by image.

        Returns:
            For each image its meta with ``teacher_cls`` and ``student_cls`` ``(Dt,)``, ``teacher_patches`` and
            ``student_patches`` ``(N, Dt)``; the student's only where an objective has a head for them.
        """
        teacher, student = self.teacher(images), self.student(images)
        tokens = {"teacher_cls": teacher.cls, "teacher_patches": teacher.patches}
        tokens |= {f"student_{kind}": value for kind, value in self.predict_tokens(student).items()}
        return [{**meta, **{key: value[i] for key, value in tokens.items()}} for i, meta in enumerate(metas)]

    def predict_tokens(self, student: Features) -> dict[str, Tensor]:
        """Map the student's tokens of clean images to the teacher's space.

        Where several objectives have a head for the same tokens, the first in the config is taken.

        Returns:
            ``cls`` ``(B, Dt)`` and / or ``patches`` ``(B, N, Dt)`` in float32.
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

    def _check_grids(self) -> None:
        if not hasattr(self.student, "img_size"):
            return
        needing = [name for name, objective in self._objectives.items() if objective.needs_equal_grids]
        student, size = self.student.grid, self.student.img_size
        teacher = self.teacher.grid_for(size)
        if needing and student != teacher:
            patch = self.teacher.backbone.patch_size
            raise ValueError(
                f"model.student has {student[0]}x{student[1]} patches ({size} px, patch {self.student.patch_size}) and "
                f"model.teacher {teacher[0]}x{teacher[1]} ({self.teacher.img_size or size} px, patch {patch}), but "
                f"objectives {needing} compare patch by patch: set model.teacher.img_size={student[0] * patch}, "
                "or keep only objectives of the cls token"
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


def _build(key: str, config: dict[str, Any], **defaults: Any) -> Any:
    try:
        return MODELS.build(config, default_args=defaults)
    except CheckpointError as error:
        raise CheckpointError(f"{key}.checkpoint: {error}") from error
