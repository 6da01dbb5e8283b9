"""Class prompts for zero-shot classification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from projects.dime_fm.open_clip_parts import open_clip, tokenizer
from proteus.registry import TASK_UTILS


@TASK_UTILS.register_module()
class PromptEnsemble:
    """Prompts of each class, for zero-shot classification with an ensemble of prompts (CLIP, section 3.1.4).

    A class's embedding is the mean of its prompts' embeddings, each of length 1, normalised again.

    Args:
        names: Class names in the order of their labels (for a ``LabelledFolder``, the order of the folders' names); or
            ``imagenet``, OpenAI's names of ImageNet-1K's classes in the order of their WordNet ids.
        templates: Sentences with ``{}`` for the name; or ``openai``, CLIP's 80 for ImageNet, or ``simple``, its seven
            best.

    Raises:
        ValueError: ``names`` is empty, or a template has no ``{}``.
        ImportError: open_clip is not installed.
    """

    def __init__(self, names: Sequence[str] | str, templates: Sequence[str] | str = ("a photo of a {}.",)) -> None:
        if isinstance(names, str) and names != "imagenet":
            raise ValueError(f"zero_shot.names={names!r}: write a list of names, or 'imagenet'")
        if isinstance(templates, str) and templates not in ("openai", "simple"):
            raise ValueError(f"zero_shot.templates={templates!r}: write a list of sentences, 'openai' or 'simple'")
        self.names = list(open_clip().IMAGENET_CLASSNAMES if isinstance(names, str) else names)
        if not self.names:
            raise ValueError("zero_shot.names is empty: write the classes' names in the order of their labels")
        self._fillers = _fillers(templates)
        if not self._fillers:
            raise ValueError("zero_shot.templates is empty: write at least one, such as 'a photo of a {}.'")

    def prompts(self, name: str) -> list[str]:
        """Return all prompts of a class."""
        return [fill(name) for fill in self._fillers]

    @torch.no_grad()
    def embed(self, encode: Callable[[Tensor], Tensor], context_length: int, device: torch.device) -> Tensor:
        """Embed all classes.

        Args:
            encode: Tokens ``(N, context_length)`` -> embeddings ``(N, D)`` of length 1.
            context_length: Tokens per sentence.
            device: Device of the tokens.

        Returns:
            ``(C, D)``, of length 1.
        """
        classes = []
        for name in self.names:
            tokens = tokenizer()(self.prompts(name), context_length=context_length)
            classes.append(encode(tokens.to(device)).mean(dim=0))
        return F.normalize(torch.stack(classes), dim=-1)


def _fillers(templates: Sequence[str] | str) -> list[Callable[[str], str]]:
    if isinstance(templates, str):
        module: Any = open_clip()
        return list(module.OPENAI_IMAGENET_TEMPLATES if templates == "openai" else module.SIMPLE_IMAGENET_TEMPLATES)
    without = [template for template in templates if "{}" not in template]
    if without:
        raise ValueError(f"zero_shot.templates: {without[0]!r} has no '{{}}' for the class's name")
    return [lambda name, template=template: template.replace("{}", name) for template in templates]  # type: ignore[misc]
