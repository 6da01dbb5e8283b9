"""Distillation of an image-text model on unpaired images and sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from projects.dime_fm.dual_encoder import DualEncoder
from projects.dime_fm.losses import Embeddings, UnpairedLoss
from projects.dime_fm.teacher import FrozenDualEncoder
from proteus.checkpoints import CheckpointError
from proteus.datasets.teacher_cache import StaleCacheError, differences
from proteus.evaluation.text.prompts import PromptEnsemble
from proteus.models.distillers.predictions import split_by_image
from proteus.registry import MODELS, TASK_UTILS


@MODELS.register_module()
class UnpairedDistiller(BaseModel):
    """Distil an image-text model into a smaller one, on images and sentences that are unrelated.

    A student without a text tower shares the teacher's, as in the released code. Losses are computed per process: with
    several, each has its own images and sentences, and gradients are averaged.

    Args:
        teacher: Config of the teacher.
        student: Config of the student.
        losses: Configs of the losses by name; ``None`` removes one of a base config.
        data_preprocessor: Config of the data preprocessor, for teacher and student.
        zero_shot: Config of the class prompts, to classify labelled images.

    Raises:
        ValueError: Losses, student and teacher do not match; the message names the keys.
        CheckpointError: Weights cannot be read, or do not match the model.
    """

    teacher: FrozenDualEncoder

    def __init__(
        self,
        teacher: Mapping[str, Any],
        student: Mapping[str, Any],
        losses: Mapping[str, Mapping[str, Any] | None],
        data_preprocessor: Mapping[str, Any] | None = None,
        zero_shot: Mapping[str, Any] | None = None,
    ) -> None:
        # Built here: MMEngine would look the name up in its own registry where no default scope is set.
        super().__init__(MODELS.build(dict(data_preprocessor or {"type": "DistillDataPreprocessor"})))
        # Not registered as a submodule, so that it is never saved, optimised, averaged or broadcast.
        self.__dict__["teacher"] = _build("teacher", teacher)
        self.student: DualEncoder = _build("student", student)
        self.losses = nn.ModuleDict({name: MODELS.build(dict(loss)) for name, loss in losses.items() if loss})
        self.prompts: PromptEnsemble | None = TASK_UTILS.build(dict(zero_shot)) if zero_shot else None
        self._classes: tuple[Tensor, Tensor] | None = None
        self._text_teacher: dict[str, Any] | None = None
        self._check()
        self.student.logit_scale.data = self.teacher.encoder.logit_scale.detach().clone()
        self.teacher.to_device(self.student.logit_scale.device)

    def init_weights(self) -> None:
        """Nothing to do: every part has initialised itself or loaded its weights when it was built."""

    def train(self, mode: bool = True) -> UnpairedDistiller:
        """Switch to training or eval mode; drops the class embeddings, since the weights may change."""
        self._classes = None
        return super().train(mode)

    def forward(
        self,
        inputs: Tensor,
        tokens: Tensor | None = None,
        data_samples: Sequence[BaseDataElement] | None = None,
        labels: Tensor | None = None,
        mode: str = "tensor",
        teacher_cls: Tensor | None = None,
        teacher_patches: Tensor | None = None,
        teacher_texts: Tensor | None = None,
        text_teacher: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one batch, as MMEngine's runner does.

        Args:
            inputs: ``(B, 3, H, W)``, normalised images.
            tokens: Sentences ``(N, L)`` int64, unrelated to the images.
            data_samples: For each image, its path and label as metainfo.
            labels: Unused.
            mode: ``loss``, ``predict`` or ``tensor``.
            teacher_cls: The teacher's cached embeddings ``(B, D)`` of the images; without them the teacher runs.
            teacher_patches: Unused and empty, since embeddings have no patches.
            teacher_texts: The teacher's cached embeddings ``(N, D)`` of the sentences; without them the teacher runs.
            text_teacher: Fingerprint of the teacher of ``teacher_texts``.

        Returns:
            ``loss``: each weighted term as ``loss_<name>``. ``predict``: see :meth:`predict`. ``tensor``: the student's
            embeddings ``(B, D)`` of the images, normalised to length 1.

        Raises:
            ValueError: Sentences are missing, or their length differs from the text tower's.
            StaleCacheError: ``teacher_texts`` are from another teacher.
        """
        if teacher_texts is not None:
            self._check_texts(text_teacher or {})
        if tokens is not None and tokens.shape[1] != self.teacher.context_length:
            raise ValueError(
                f"sentences have {tokens.shape[1]} tokens, but the text towers read {self.teacher.context_length}: set "
                f"dataset.sentences.context_length={self.teacher.context_length}"
            )
        if mode == "loss":
            if tokens is None:
                raise ValueError(
                    "the batch has no sentences to train on: write dataset=dict(type='UnpairedSet', ...) and "
                    "collate_fn=dict(type='unpaired_collate')"
                )
            return self.terms(inputs, tokens, teacher_cls, teacher_texts)
        if mode == "predict":
            return self.predict(inputs, tokens, data_samples or [BaseDataElement() for _ in inputs], teacher_texts)
        return self.encode_images(inputs)

    def encode_images(self, images: Tensor) -> Tensor:
        """Return the student's embeddings ``(B, D)`` of images, float32, of length 1."""
        return F.normalize(self.student.encode_images(images).float(), dim=-1)

    def encode_texts(self, tokens: Tensor) -> Tensor:
        """Return the embeddings ``(N, D)`` of sentences by the student or a shared tower: float32, of length 1."""
        if self.student.text is None:
            return self.teacher.encode_texts(tokens)
        return F.normalize(self.student.encode_texts(tokens).float(), dim=-1)

    def terms(
        self, images: Tensor, tokens: Tensor, teacher_cls: Tensor | None = None, teacher_texts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return the weighted terms as ``loss_<name>``, scalars in float32 (arguments as for :meth:`forward`)."""
        scale = self.teacher.encoder.logit_scale.exp()
        theirs = Embeddings(
            self.teacher.encode_images(images) if teacher_cls is None else teacher_cls,
            self.teacher.encode_texts(tokens) if teacher_texts is None else teacher_texts,
            scale,
        )
        shared = theirs.texts if self.student.text is None else self.encode_texts(tokens)
        ours = Embeddings(self.encode_images(images), shared, scale)
        # At a scale of 100, cosines in bfloat16 would be off by a whole unit of score.
        with torch.autocast(images.device.type, enabled=False):
            return {f"loss_{name}": loss.weight * loss(ours, theirs) for name, loss in self._losses.items()}

    @torch.no_grad()
    def predict(
        self,
        images: Tensor,
        tokens: Tensor | None,
        data_samples: Sequence[BaseDataElement],
        teacher_texts: Tensor | None = None,
    ) -> list[dict[str, Any]]:
        """Return the embeddings and scores of teacher and student for each image of a batch.

        Returns:
            For each image its metainfo with ``student_image`` and ``teacher_image`` ``(D,)``; with sentences also
            ``student_texts`` and ``teacher_texts`` ``(N / B, D)`` of those in its sample, and ``scale``; with class
            prompts also ``student_logits`` and ``teacher_logits`` ``(C,)``.

        Raises:
            ValueError: An image's class has no name.
        """
        scale = self.teacher.encoder.logit_scale.exp()
        ours, theirs = self.encode_images(images), self.teacher.encode_images(images)
        found: dict[str, Tensor] = {"student_image": ours, "teacher_image": theirs}
        if tokens is not None:
            shape = (len(images), -1)
            texts = self.teacher.encode_texts(tokens) if teacher_texts is None else teacher_texts
            shared = texts if self.student.text is None else self.encode_texts(tokens)
            found["student_texts"], found["teacher_texts"] = shared.unflatten(0, shape), texts.unflatten(0, shape)
            found["scale"] = scale.expand(len(images))
        if self.prompts is not None:
            beyond = [each.label for each in data_samples if each.get("label", 0) >= len(self.prompts.names)]
            if beyond:
                raise ValueError(
                    f"an image has label {beyond[0]} (counted from 0), but model.zero_shot.names has "
                    f"{len(self.prompts.names)} names: write one for each class of the data set, in their order"
                )
            student, teacher = self._classes = self._classes or self._embedded_classes(images.device)
            found["student_logits"], found["teacher_logits"] = scale * ours @ student.T, scale * theirs @ teacher.T
        return split_by_image(found, len(images), data_samples)

    def teacher_fingerprint(self) -> dict[str, Any]:
        """Return what the teacher's image embeddings depend on, for the index of their cache."""
        preprocessor: Any = self.data_preprocessor
        statistics = {"mean": list(preprocessor.channel_mean), "std": list(preprocessor.channel_std)}
        return {**self.teacher.image_identity(), **statistics}

    @property
    def _losses(self) -> dict[str, UnpairedLoss]:
        return dict(self.losses.items())  # type: ignore[arg-type]

    def _embedded_classes(self, device: torch.device) -> tuple[Tensor, Tensor]:
        assert self.prompts is not None
        length = self.teacher.context_length
        encoders = (self.encode_texts, self.teacher.encode_texts)
        student, teacher = (self.prompts.embed(encode, length, device) for encode in encoders)
        return student, teacher

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> UnpairedDistiller:
        super()._apply(fn, recurse)
        device = self.student.logit_scale.device
        if device != self.teacher.encoder.logit_scale.device:
            self.teacher.to_device(device)
        return self

    def _check_texts(self, found: Mapping[str, Any]) -> None:
        # Checked here instead of in a hook, so that every config has it. The digest of the weights is computed once.
        if self._text_teacher is None:
            self._text_teacher = self.teacher.text_identity()
        different = differences(dict(found), self._text_teacher, "teacher.text")
        if different:
            text = [
                "the sentence cache is from another teacher (sentences.cache):",
                *different,
                "revert the change, build a new cache with python -m projects.dime_fm.cache_sentences, or set "
                "sentences.cache=None to run the teacher",
            ]
            raise StaleCacheError("\n  ".join(text))

    def _check(self) -> None:
        if not self.losses:
            raise ValueError("model.losses is empty: give at least one loss")
        ours, theirs = self.student.embed_dim, self.teacher.embed_dim
        narrow = [name for name, loss in self._losses.items() if loss.needs_equal_widths]
        if ours != theirs and (narrow or self.student.text is None):
            why = f"losses {narrow} compare" if narrow else "a student without text compares its images"
            raise ValueError(
                f"model.student.embed_dim={ours}, and {why} with the teacher's embeddings of width {theirs}: set "
                f"model.student.embed_dim={theirs}"
                + (f", or drop {narrow}" if narrow and self.student.text is not None else "")
            )
        text = self.student.text
        if text is not None and text.context_length != self.teacher.context_length:
            raise ValueError(
                f"model.student.text.context_length={text.context_length}, but the teacher reads "
                f"{self.teacher.context_length} tokens: make them equal"
            )
        of_texts = [name for name, loss in self._losses.items() if getattr(loss, "modality", "") == "texts"]
        if text is None and of_texts:
            raise ValueError(
                f"model.losses {of_texts} compare texts, and the student shares the teacher's text tower: set "
                "model.student.text, or drop them"
            )


def _build(part: str, config: Mapping[str, Any]) -> Any:
    try:
        return MODELS.build(dict(config))
    except CheckpointError as error:
        raise CheckpointError(f"model.{part}.{error}") from error
