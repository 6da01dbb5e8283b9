"""Zero-shot classification by class embeddings of a text tower."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from proteus.evaluation.features.store import Split
from proteus.evaluation.protocols.protocol import EvalContext, refuse_one_class
from proteus.evaluation.protocols.text_protocol import TextProtocol
from proteus.evaluation.scores import score
from proteus.evaluation.text import class_names, read_text_embeddings
from proteus.evaluation.text.prompts import check_templates
from proteus.registry import PROTOCOLS


@PROTOCOLS.register_module()
class ZeroShot(TextProtocol):
    """Classify each test image by the class with the nearest text embedding by cosine (CLIP, section 3.1).

    For the backbones of :class:`TextProtocol`. Training images are not read.

    Args:
        class_embeddings: File with an embedding for each class, of
            :func:`~proteus.evaluation.text.read_text_embeddings`.
        text_tower: As for :class:`TextProtocol`; it embeds the prompts.
        text_weights: As for :class:`TextProtocol`.
        templates: Templates of :class:`~proteus.evaluation.text.PromptEnsemble`, for ``text_tower``.
        names: Folder of ``SET.txt`` with class names, one per line in the order of the labels; by default the names of
            the class folders, or those of the set.
        projection: As for :class:`TextProtocol`.
        **set_options: ``sets``, ``pipeline``, ``mean`` and ``std`` of :class:`SetProtocol`.

    Raises:
        ValueError: As :class:`TextProtocol`; or a template has no ``{}``, or the folder of names is missing.
    """

    name = "zero-shot"
    title = "Zero-shot classification"
    unit = "%"
    embeddings_key = "class_embeddings"

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
        super().__init__(class_embeddings, text_tower, text_weights, projection, **set_options)
        if names is not None and not Path(names).expanduser().is_dir():
            raise ValueError(f"protocol.names: {names} is missing; name a folder with SET.txt, one class name per line")
        try:
            check_templates(templates)
        except ValueError as error:
            raise ValueError(f"protocol.{error}") from error
        self.names = None if names is None else Path(names).expanduser()
        self.templates = templates

    def settings(self, context: EvalContext) -> dict[str, Any]:
        """Return the text tower, the templates, and the names and states of all files."""
        return {**super().settings(context), "templates": self.templates}

    def other_files(self) -> Sequence[Path]:
        """Return the lists of class names."""
        return [] if self.names is None else sorted(self.names.glob("*.txt"))

    def open_parts(self, name: str, config: dict[str, Any], context: EvalContext) -> list[Split]:
        """Open the test part of a data set.

        Raises:
            DataError: The set has one class.
        """
        test = context.split(config, "test")
        refuse_one_class(name, test)
        return [test]

    def evaluate(self, name: str, config: dict[str, Any], context: EvalContext) -> dict[str, Any]:
        """Classify the test images of one data set.

        Raises:
            DataError: A class has no embedding, or widths differ.
            UserError: open_clip is needed and not installed.
        """
        test = context.split(config, "test")
        names = class_names(test.dataset, name, self.names)
        classes = self._embed(names, context)
        images = self.image_embeddings(name, config, context, classes.shape[1])
        remarks = [getattr(test.dataset, "differences", ""), _repeated(names)]
        return {
            "test": score(test.dataset.metric, (images @ classes.T).numpy(), test.labels),
            "metric": test.dataset.metric,
            "classes": len(names),
            "images": len(test.labels),
            "remarks": "; ".join(filter(None, remarks)),
        }

    def prompt_words(self) -> str:
        """Return the name of the templates, or their number."""
        return self.templates if isinstance(self.templates, str) else f"{len(self.templates)} templates"

    def _embed(self, names: Sequence[str], context: EvalContext) -> Tensor:
        if self.embeddings is not None:
            return read_text_embeddings(self.embeddings, names)
        return self.tower(context).embed(names, self.templates)


def _repeated(names: Sequence[str]) -> str:
    """Name the classes with equal names: all their images are classified as the first of them."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    return f"several classes with the name {', '.join(map(repr, repeated[:5]))}" if repeated else ""
