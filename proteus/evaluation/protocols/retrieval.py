"""Image-text retrieval by text embeddings of a text tower."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from proteus.datasets.captions import CaptionedImages
from proteus.evaluation.features.extraction import file_states
from proteus.evaluation.features.store import Split, Table
from proteus.evaluation.protocols.protocol import EvalContext, ProtocolResult
from proteus.evaluation.protocols.text_protocol import TextProtocol
from proteus.evaluation.recall import RANKS, recall, retrieval_ranks
from proteus.evaluation.text import read_text_embeddings
from proteus.registry import DATASETS, PROTOCOLS
from proteus.structures import DataError


@PROTOCOLS.register_module()
class Retrieval(TextProtocol):
    """Find the captions of each image, and the image of each caption, by cosine.

    For the backbones of :class:`TextProtocol`. ``text R@k`` is the percentage of images with one of their captions
    among the ``k`` nearest captions, and ``image R@k`` that of captions with their image among the ``k`` nearest
    images, for k = 1, 5 and 10.

    Args:
        caption_embeddings: File with an embedding for each caption, of
            :func:`~proteus.evaluation.text.read_text_embeddings`.
        text_tower: As for :class:`TextProtocol`; it embeds the captions.
        text_weights: As for :class:`TextProtocol`.
        template: Sentence with ``{}`` for the caption, for ``text_tower``: CLIP's paper has ``a photo of {}``.
        projection: As for :class:`TextProtocol`.
        **set_options: ``sets``, ``pipeline``, ``mean`` and ``std`` of :class:`SetProtocol`.

    Raises:
        ValueError: As :class:`TextProtocol`; or the template has no ``{}``.
    """

    name = "retrieval"
    title = "Image-text retrieval"
    unit = "recall, %"
    set_type = CaptionedImages
    own_set = "CaptionedImages"
    own_layout = "images with captions"
    embeddings_key = "caption_embeddings"

    def __init__(
        self,
        caption_embeddings: str | Path | None = None,
        text_tower: str | None = None,
        text_weights: str | Path | None = None,
        template: str = "{}",
        projection: str | Path | None = None,
        **set_options: Any,
    ) -> None:
        super().__init__(caption_embeddings, text_tower, text_weights, projection, **set_options)
        if not isinstance(template, str) or "{}" not in template:
            raise ValueError(f"protocol.template={template!r}: write a sentence with {{}} for the caption")
        self.template = template
        self._splits: dict[str, Split] = {}

    def settings(self, context: EvalContext) -> dict[str, Any]:
        """Return the text tower, the template, and the names and states of all files."""
        return {**super().settings(context), "template": self.template}

    def open_parts(self, name: str, config: dict[str, Any], context: EvalContext) -> list[Split]:
        """List images and captions.

        Raises:
            FileNotFoundError: The file of captions or an image is missing.
            DataError: See :class:`~proteus.datasets.CaptionedImages`; or there is only one image.
        """
        dataset = DATASETS.build(config)
        if len(dataset) < 2:
            raise DataError(f"{name}: {dataset.data_root} has one image, which is always found; add images")
        text = json.dumps([config, dataset.paths], sort_keys=True, default=str)
        labels = np.zeros(len(dataset), np.int64)
        images = Split(config, dataset, dataset.paths, labels, _digest(text), file_states(dataset.paths))
        self._splits[name] = images
        # Separate, so that images are not encoded again when captions change.
        captions = Split(config, dataset, [], labels[:0], _digest(json.dumps(dataset.captions)), file_states([]))
        return [images, captions]

    def table(self, name: str, config: Any, part: str, context: EvalContext, tokens: Any = "cls") -> Table:
        """Return the features of the images."""
        return context.store.table(self._splits[name], f"{name}-{part}", tokens, self.mean, self.std)

    def evaluate(self, name: str, config: dict[str, Any], context: EvalContext) -> dict[str, Any]:
        """Compute the recalls on one data set.

        Raises:
            DataError: A caption has no embedding, or widths differ.
            UserError: open_clip is needed and not installed.
        """
        dataset: CaptionedImages = self._splits[name].dataset
        captions = [caption for own in dataset.captions for caption in own]
        image_of = [number for number, own in enumerate(dataset.captions) for _ in own]
        texts = self._embed(captions, context)
        images = self.image_embeddings(name, config, context, texts.shape[1])
        of_captions, of_images = retrieval_ranks(images, texts, image_of)
        return {
            **{f"text R@{k}": recall(of_captions, k) for k in RANKS},
            **{f"image R@{k}": recall(of_images, k) for k in RANKS},
            "images": len(dataset),
            "captions": len(captions),
        }

    def summarise(self, result: ProtocolResult) -> None:
        """Name the sources of the embeddings, and explain the columns."""
        super().summarise(result)
        result.notes.append(
            "text R@k: images with one of their captions among the k nearest captions; image R@k: captions with their "
            "image among the k nearest images"
        )

    def prompt_words(self) -> str:
        """Return the template."""
        return f"template {self.template!r}"

    def _embed(self, captions: Sequence[str], context: EvalContext) -> Tensor:
        if self.embeddings is not None:
            return read_text_embeddings(self.embeddings, captions, "caption")
        return self.tower(context).encode([self.template.replace("{}", caption) for caption in captions])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
