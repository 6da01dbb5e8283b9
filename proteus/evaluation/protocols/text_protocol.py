"""Base class of the protocols that compare images with texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.evaluation.features.extraction import file_states
from proteus.evaluation.protocols.protocol import EvalContext, ProtocolResult, SetProtocol
from proteus.evaluation.text import ImageProjection, TextTower, read_projection
from proteus.structures import DataError, UserError


class TextProtocol(SetProtocol):
    """A protocol for a CLIP or SigLIP, and for a student with heads that map its tokens to such a teacher's space.

    The student is named ``NAME#mapped``. Compared is the image embedding in the space that images and texts share. The
    cls token of a CLIP's tower, and of a student of it, is the token before the image projection: ``projection`` names
    the teacher's weights. A SigLIP has none, since its tower pools into the shared space.

    Args:
        embeddings: File of text embeddings; the subclass's argument is :attr:`embeddings_key`.
        text_tower: Name of the teacher in open_clip; its text tower embeds the texts, in place of ``embeddings``.
        text_weights: File with the teacher's weights for ``text_tower``, with the names of open_clip or OpenAI.
        projection: File with the image projection, such as ``text_weights``.
        **set_options: ``sets``, ``pipeline``, ``mean`` and ``std`` of :class:`SetProtocol`.

    Raises:
        ValueError: There are two sources of embeddings, or a file is missing.
    """

    embeddings_key: ClassVar[str]
    """Key of the file of text embeddings in the config, such as ``class_embeddings``."""

    def __init__(
        self,
        embeddings: str | Path | None = None,
        text_tower: str | None = None,
        text_weights: str | Path | None = None,
        projection: str | Path | None = None,
        **set_options: Any,
    ) -> None:
        super().__init__(**set_options)
        if embeddings is not None and text_tower is not None:
            raise ValueError(f"protocol.{self.embeddings_key} and protocol.text_tower: {self._sources}")
        if (text_tower is None) != (text_weights is None):
            raise ValueError(
                "protocol.text_tower and protocol.text_weights: write both, a name in open_clip and the file of "
                "its weights"
            )
        self.embeddings = checked_file(self.embeddings_key, embeddings)
        self.text_weights = checked_file("text_weights", text_weights)
        self.projection = checked_file("projection", projection)
        self.text_tower = text_tower
        self._tower: TextTower | None = None

    def settings(self, context: EvalContext) -> dict[str, Any]:
        """Return the text tower, and the names and states of all files."""
        rows = self.embeddings and self.embeddings.with_suffix(".txt")
        files = [self.embeddings, rows if rows and rows.is_file() else None, self.text_weights, self.projection]
        paths = [str(path) for path in (*files, *self.other_files()) if path is not None]
        named = {"text_tower": self.text_tower, "projection": str(self.projection)}
        return {**named, "files": [paths, file_states(paths).tolist()]}

    def other_files(self) -> Sequence[Path]:
        """Return files of a subclass that results depend on."""
        return ()

    def run(self, context: EvalContext) -> ProtocolResult:
        """Evaluate every data set that is on disk; list those that are missing and those that fail.

        Raises:
            UserError: The config names neither text embeddings nor a text tower.
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

    def extract_parts(self, name: str, config: dict[str, Any], context: EvalContext) -> None:
        """Extract the features of the test images."""
        self.table(name, config, "test", context)

    def tower(self, context: EvalContext) -> TextTower:
        """Return the text tower, on the device of the backbone.

        Raises:
            UserError: open_clip is not installed, or does not know the tower.
        """
        if self._tower is None:
            assert self.text_tower is not None
            assert self.text_weights is not None
            self._tower = TextTower(self.text_tower, self.text_weights, context.store.device)
        return self._tower

    def image_embeddings(self, name: str, config: dict[str, Any], context: EvalContext, width: int) -> Tensor:
        """Encode the test images of a data set.

        Args:
            name: Name of the set.
            config: Its config.
            context: Context of the evaluation.
            width: Width ``E`` of the text embeddings.

        Returns:
            ``(N, E)`` float32, of length 1.

        Raises:
            DataError: Widths differ; raised before the images are encoded, which takes long.
        """
        projection = None if self.projection is None else read_projection(self.projection)
        self._check_widths(context.store.width(), projection, width, context.spec.name)
        tokens = torch.from_numpy(self.table(name, config, "test", context).cls.astype("float32"))
        return F.normalize(tokens if projection is None else projection(tokens), dim=-1)

    def summarise(self, result: ProtocolResult) -> None:
        """Name the sources of the embeddings."""
        kind = self.embeddings_key.replace("_", " ")
        source = f"text tower: {self.text_tower}, {self.prompt_words()}"
        if self.embeddings is not None:
            source = f"{kind}: {self.embeddings.name}"
        projection = "none" if self.projection is None else self.projection.name
        result.notes.append(f"{source}; image projection: {projection}")

    def prompt_words(self) -> str:
        """Describe the prompts of the text tower, for the report."""
        raise NotImplementedError

    @property
    def _sources(self) -> str:
        kind = self.embeddings_key.replace("_", " ")
        return f"write one of them, a file of {kind} or the teacher's name in open_clip"

    def _check_source(self) -> None:
        if self.embeddings is None and self.text_tower is None:
            raise UserError(
                f"protocol.{self.embeddings_key} and protocol.text_tower are missing: {self._sources}, with "
                "--cfg-options"
            )

    def _check_widths(self, width: int, projection: ImageProjection | None, texts: int, backbone: str) -> None:
        kind = self.embeddings_key.replace("_", " ")
        remedy = f"; to map a student's tokens to its teacher's width, write {backbone}#mapped"
        mapped = "" if "#mapped" in backbone else remedy
        if projection is not None:
            out, into = projection.weight.shape
            if into != width:
                raise DataError(
                    f"protocol.projection: {self.projection} projects tokens of width {into}, and {backbone} gives "
                    f"{width}{mapped}"
                )
            if out != texts:
                raise DataError(
                    f"protocol.projection: {self.projection} projects to width {out}, and the {kind} have "
                    f"{texts}: take both from one teacher"
                )
        elif width != texts:
            raise DataError(
                f"{backbone} gives tokens of width {width}, and the {kind} have {texts}: a CLIP compares "
                f"the projected image embedding, so name the teacher's weights in protocol.projection{mapped}"
            )


def checked_file(key: str, file: str | Path | None) -> Path | None:
    """Return the path of a file that a config names.

    Raises:
        ValueError: It is missing; the message names ``protocol.KEY``.
    """
    path = None if file is None else Path(file).expanduser()
    if path is not None and not path.is_file():
        raise ValueError(f"protocol.{key}: {file} is missing; name a file")
    return path
