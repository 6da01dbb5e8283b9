"""The text tower of a CLIP or SigLIP, through open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proteus.checkpoints import load_strictly, read_state_dict
from proteus.evaluation.text.open_clip_parts import open_clip
from proteus.evaluation.text.prompts import PromptEnsemble
from proteus.structures import UserError

# Numbers that OpenAI's archives hold among the weights.
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


class TextTower:
    """A frozen text tower with weights from a file.

    Args:
        model: Name in open_clip, such as ``ViT-B-16`` (``ViT-B-16-quickgelu`` for OpenAI's weights).
        weights: File with all weights of that model in open_clip's names, or OpenAI's.
        device: Device to compute on.

    Raises:
        UserError: open_clip is not installed or does not know the model, or its tokenizer is not on this machine.
        CheckpointError: The file cannot be read, or is of another model.
    """

    def __init__(self, model: str, weights: str | Path, device: torch.device | str = "cpu") -> None:
        module = open_clip()
        known = module.list_models()
        if model not in known:
            near = get_close_matches(model, known, n=3, cutoff=0.4)
            raise UserError(
                f"protocol.text_tower={model!r} is unknown to open_clip; nearest: {', '.join(near) or 'none'}"
            )
        state = {
            key: value.float()
            for key, value in read_state_dict(weights).items()
            if not key.startswith("visual.") and key not in _NO_WEIGHTS
        }
        self._clip = _made(lambda: module.create_model(model, load_weights=False, pretrained_text=False), model)
        self._clip.visual = nn.Identity()
        load_strictly(self._clip, state, weights)
        self._clip.to(device).requires_grad_(False).eval()
        self._tokenize = _made(lambda: module.get_tokenizer(model), model)
        self._device = torch.device(device)

    def embed(self, names: Sequence[str], templates: Sequence[str] | str) -> Tensor:
        """Embed classes by an ensemble of prompts.

        Args:
            names: Class names.
            templates: Templates of :class:`PromptEnsemble`.

        Returns:
            ``(C, E)`` float32 on the CPU, of length 1.
        """
        prompts = PromptEnsemble(names, templates)
        length = self._clip.context_length
        return prompts.embed(self._clip.encode_text, length, self._device, self._tokenize).float().cpu()

    @torch.no_grad()
    def encode(self, sentences: Sequence[str], batch_size: int = 256) -> Tensor:
        """Embed sentences.

        Args:
            sentences: Sentences; those longer than the tower's context are cut.
            batch_size: Sentences per forward pass.

        Returns:
            ``(N, E)`` float32 on the CPU, of length 1.
        """
        rows = []
        for start in range(0, len(sentences), batch_size):
            tokens = self._tokenize(
                list(sentences[start : start + batch_size]), context_length=self._clip.context_length
            )
            rows.append(self._clip.encode_text(tokens.to(self._device), normalize=True).float().cpu())
        return torch.cat(rows)


def _made(make: Any, model: str) -> Any:
    try:
        return make()
    except Exception as error:  # open_clip and the libraries of its tokenizers raise many types
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"open_clip cannot make the text tower of {model} or its tokenizer on this machine "
            f"({type(error).__name__}: {words}); name a file of prepared embeddings in protocol.class_embeddings"
        ) from error
