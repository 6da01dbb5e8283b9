"""Class prompts for zero-shot classification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from proteus.evaluation.text.open_clip_parts import open_clip, tokenizer
from proteus.registry import TASK_UTILS


def ensemble(embeddings: Tensor) -> Tensor:
    """Average the embeddings of a class's prompts as CLIP does: the mean of those of length 1, normalised again.

    Args:
        embeddings: ``(..., P, D)`` of ``P`` prompts, of any length.

    Returns:
        ``(..., D)``, of length 1.
    """
    return F.normalize(F.normalize(embeddings, dim=-1).mean(dim=-2), dim=-1)


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
        UserError: open_clip is not installed.
    """

    def __init__(self, names: Sequence[str] | str, templates: Sequence[str] | str = ("a photo of a {}.",)) -> None:
        if isinstance(names, str) and names != "imagenet":
            raise ValueError(f"names={names!r}: write a list of names, or 'imagenet'")
        check_templates(templates)
        self.names = list(open_clip().IMAGENET_CLASSNAMES if isinstance(names, str) else names)
        if not self.names:
            raise ValueError("names is empty: write the classes' names in the order of their labels")
        self._fillers = _fillers(templates)

    def prompts(self, name: str) -> list[str]:
        """Return all prompts of a class."""
        return [fill(name) for fill in self._fillers]

    @torch.no_grad()
    def embed(
        self,
        encode: Callable[[Tensor], Tensor],
        context_length: int,
        device: torch.device,
        tokenize: Callable[..., Tensor] | None = None,
    ) -> Tensor:
        """Embed all classes.

        Args:
            encode: Tokens ``(N, context_length)`` -> embeddings ``(N, D)``.
            context_length: Tokens per sentence.
            device: Device of the tokens.
            tokenize: Tokenizer of open_clip; OpenAI's by default.

        Returns:
            ``(C, D)``, of length 1.
        """
        tokenize = tokenize or tokenizer()
        tokens = (tokenize(self.prompts(name), context_length=context_length) for name in self.names)
        return torch.stack([ensemble(encode(each.to(device))) for each in tokens])


def check_templates(templates: Sequence[str] | str) -> None:
    """Check templates without open_clip.

    Raises:
        ValueError: There is none, one has no ``{}``, or a name is unknown.
    """
    if isinstance(templates, str):
        if templates not in ("openai", "simple"):
            raise ValueError(f"templates={templates!r}: write a list of sentences, 'openai' or 'simple'")
        return
    if not templates:
        raise ValueError("templates is empty: write at least one, such as 'a photo of a {}.'")
    without = [template for template in templates if not isinstance(template, str) or "{}" not in template]
    if without:
        raise ValueError(f"templates: {without[0]!r} has no '{{}}' for the class's name")


def _fillers(templates: Sequence[str] | str) -> list[Callable[[str], str]]:
    if isinstance(templates, str):
        module: Any = open_clip()
        return list(module.OPENAI_IMAGENET_TEMPLATES if templates == "openai" else module.SIMPLE_IMAGENET_TEMPLATES)
    return [lambda name, template=template: template.replace("{}", name) for template in templates]  # type: ignore[misc]
