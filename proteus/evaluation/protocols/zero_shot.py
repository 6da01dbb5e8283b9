"""Zero-shot classification by class embeddings of a text tower."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.evaluation.features.extraction import file_states
from proteus.evaluation.features.store import Split
from proteus.evaluation.protocols.protocol import EvalContext, ProtocolResult, SetProtocol, refuse_one_class
from proteus.evaluation.scores import score
from proteus.evaluation.text import ImageProjection, TextTower, class_names, read_class_embeddings, read_projection
from proteus.evaluation.text.prompts import check_templates
from proteus.registry import PROTOCOLS
from proteus.structures import DataError, UserError

_SOURCES = "write one of them, a file of class embeddings or the teacher's name in open_clip"


@PROTOCOLS.register_module()
class ZeroShot(SetProtocol):
    """Classify each test image by the class with the nearest text embedding by cosine (CLIP, section 3.1).

    For a CLIP or SigLIP, and for a student with the heads that map its tokens to such a teacher's space
    (``NAME#mapped``). Compared is the image embedding in the space that images and texts share. The cls token of a
    CLIP's tower, and of a student of it, is the token before the image projection: ``projection`` names the teacher's
    weights. A SigLIP has none, since its tower pools into the shared space.

    Training images are not read.

    Args:
        class_embeddings: File with an embedding for each class, of
            :func:`~proteus.evaluation.text.read_class_embeddings`.
        text_tower: Name of the teacher in open_clip; its text tower embeds the prompts, in place of
            ``class_embeddings``.
        text_weights: File with the teacher's weights for ``text_tower``, with the names of open_clip or OpenAI.
        templates: Templates of :class:`~proteus.evaluation.text.PromptEnsemble`, for ``text_tower``.
        names: Folder of ``SET.txt`` with class names, one per line in the order of the labels; by default the names of
            the class folders, or those of the set.
        projection: File with the image projection, such as ``text_weights``.
        **set_options: ``sets``, ``pipeline``, ``mean`` and ``std`` of :class:`SetProtocol`.

    Raises:
        ValueError: There are two sources of embeddings, a file is missing, or a template has no ``{}``.
    """

    name = "zero-shot"
    title = "Zero-shot classification"
    unit = "%"

    def __init__(
        self,
        class_embeddings: str | Path | None = None,
        text_tower: str | None = None,
        text_weights: str | Path | None = None,
        templates: Sequence[str] | str = "openai",
        names: str | Path | None = None,
        projection: str | Path | None = None,
        **set_options: Any,
    ) -> None:
        super().__init__(**set_options)
        if class_embeddings is not None and text_tower is not None:
            raise ValueError(f"protocol.class_embeddings and protocol.text_tower: {_SOURCES}")
        if (text_tower is None) != (text_weights is None):
            raise ValueError(
                "protocol.text_tower and protocol.text_weights: write both, a name in open_clip and the file of "
                "its weights"
            )
        files = {"class_embeddings": class_embeddings, "text_weights": text_weights, "projection": projection}
        for key, file in files.items():
            if file is not None and not Path(file).expanduser().is_file():
                raise ValueError(f"protocol.{key}: {file} is missing; name a file")
        if names is not None and not Path(names).expanduser().is_dir():
            raise ValueError(f"protocol.names: {names} is missing; name a folder with SET.txt, one class name per line")
        try:
            check_templates(templates)
        except ValueError as error:
            raise ValueError(f"protocol.{error}") from error
        self.class_embeddings, self.text_weights, self.projection, self.names = (
            None if file is None else Path(file).expanduser()
            for file in (class_embeddings, text_weights, projection, names)
        )
        self.text_tower, self.templates = text_tower, templates
        self._tower: TextTower | None = None

    def settings(self, context: EvalContext) -> dict[str, Any]:
        """Return the names and states of all files, the text tower and the templates."""
        lists = [] if self.names is None else sorted(self.names.glob("*.txt"))
        rows = self.class_embeddings and self.class_embeddings.with_suffix(".txt")
        files = [self.class_embeddings, rows if rows and rows.is_file() else None, self.text_weights, self.projection]
        paths = [str(path) for path in (*files, *lists) if path is not None]
        named = {"text_tower": self.text_tower, "templates": self.templates, "projection": str(self.projection)}
        return {**named, "files": [paths, file_states(paths).tolist()]}

    def run(self, context: EvalContext) -> ProtocolResult:
        """Evaluate every data set that is on disk; list those that are missing and those that fail.

        Raises:
            UserError: The config names neither class embeddings nor a text tower.
        """
        self._check_source()
        return super().run(context)

    def extract(self, context: EvalContext) -> None:
        """Extract the features of the test images, on all ranks of a process group.

        Raises:
            UserError: As :meth:`run`.
        """
        self._check_source()
        super().extract(context)

    def open_parts(self, name: str, config: dict[str, Any], context: EvalContext) -> list[Split]:
        """Open the test part of a data set.

        Raises:
            DataError: The set has one class.
        """
        test = context.split(config, "test")
        refuse_one_class(name, test)
        return [test]

    def extract_parts(self, name: str, config: dict[str, Any], context: EvalContext) -> None:
        """Extract the features of the test images."""
        self.table(name, config, "test", context)

    def evaluate(self, name: str, config: dict[str, Any], context: EvalContext) -> dict[str, Any]:
        """Classify the test images of one data set.

        Raises:
            DataError: A class has no embedding, or widths differ.
            UserError: open_clip is needed and not installed.
        """
        dataset = context.split(config, "test").dataset
        names = class_names(dataset, name, self.names)
        classes = self._embed(names, context)
        projection = None if self.projection is None else read_projection(self.projection)
        # Before the images are encoded, which takes long.
        self._check_widths(context.store.width(), projection, classes.shape[1], context.spec.name)
        test = self.table(name, config, "test", context)
        scores = cosines(torch.from_numpy(test.cls.astype("float32")), classes, projection)
        return {
            "test": score(dataset.metric, scores.numpy(), test.labels),
            "metric": dataset.metric,
            "classes": len(names),
            "images": len(test.labels),
            "remarks": getattr(dataset, "differences", ""),
        }

    def summarise(self, result: ProtocolResult) -> None:
        """Name the sources of the embeddings."""
        if self.class_embeddings is not None:
            source = f"class embeddings: {self.class_embeddings.name}"
        else:
            templates = self.templates if isinstance(self.templates, str) else f"{len(self.templates)} templates"
            source = f"text tower: {self.text_tower}, {templates}"
        projection = "none" if self.projection is None else self.projection.name
        result.notes.append(f"{source}; image projection: {projection}")

    def _check_source(self) -> None:
        if self.class_embeddings is None and self.text_tower is None:
            raise UserError(
                f"protocol.class_embeddings and protocol.text_tower are missing: {_SOURCES}, with --cfg-options"
            )

    def _embed(self, names: Sequence[str], context: EvalContext) -> Tensor:
        if self.class_embeddings is not None:
            return read_class_embeddings(self.class_embeddings, names)
        if self._tower is None:
            assert self.text_tower is not None
            assert self.text_weights is not None
            self._tower = TextTower(self.text_tower, self.text_weights, context.store.device)
        return self._tower.embed(names, self.templates)

    def _check_widths(self, width: int, projection: ImageProjection | None, classes: int, backbone: str) -> None:
        mapped = "" if "#mapped" in backbone else f"; a student maps to its teacher's width as {backbone}#mapped"
        if projection is not None:
            out, into = projection.weight.shape
            if into != width:
                raise DataError(
                    f"protocol.projection: {self.projection} projects tokens of width {into}, and {backbone} gives "
                    f"{width}{mapped}"
                )
            if out != classes:
                raise DataError(
                    f"protocol.projection: {self.projection} projects to width {out}, and the class embeddings have "
                    f"{classes}: take both from one teacher"
                )
        elif width != classes:
            raise DataError(
                f"{backbone} gives tokens of width {width}, and the class embeddings have {classes}: a CLIP compares "
                f"the projected image embedding, so name the teacher's weights in protocol.projection{mapped}"
            )


def cosines(tokens: Tensor, classes: Tensor, projection: ImageProjection | None = None) -> Tensor:
    """Compute the cosines of image embeddings and class embeddings.

    Args:
        tokens: ``(N, D)`` float32.
        classes: ``(C, E)`` float32, of length 1.
        projection: From width ``D`` to ``E``; without it they are equal.

    Returns:
        ``(N, C)`` float32.
    """
    embeddings = tokens if projection is None else projection(tokens)
    return F.normalize(embeddings, dim=-1) @ classes.T
