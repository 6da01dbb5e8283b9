"""Text towers of open_clip, with random weights in a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from proteus.checkpoints import CheckpointError
from proteus.evaluation.text import TextTower
from proteus.evaluation.text.open_clip_parts import open_clip, tokenizer
from proteus.structures import UserError

CONFIG = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 28, "layers": 1, "width": 64, "patch_size": 14},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the weights of a tiny CLIP, which open_clip knows as ``tiny-clip``."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny-clip.json").write_text(json.dumps(CONFIG))
    open_clip().add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(3)
    clip = open_clip().create_model("tiny-clip")
    save_file(clip.state_dict(), folder / "clip.safetensors")
    return folder / "clip.safetensors"


def test_classes_are_embedded_as_by_open_clip(weights: Path) -> None:
    torch.manual_seed(3)
    clip = open_clip().create_model("tiny-clip").eval()
    found = TextTower("tiny-clip", weights).embed(["dog", "red house"], ["a {}.", "one {} here"])
    for row, prompts in zip(found, (["a dog.", "one dog here"], ["a red house.", "one red house here"]), strict=True):
        with torch.no_grad():
            texts = clip.encode_text(tokenizer()(prompts, context_length=16), normalize=True)
        torch.testing.assert_close(row, F.normalize(texts.mean(0), dim=0))
    assert found.shape == (2, 12)


def test_sentences_are_embedded_as_by_open_clip_in_any_batches(weights: Path) -> None:
    torch.manual_seed(3)
    clip = open_clip().create_model("tiny-clip").eval()
    sentences = ["a dog", "a very long sentence of more tokens than the tower can read " * 3, "zwei Hunde"]
    with torch.no_grad():
        expected = clip.encode_text(tokenizer()(sentences, context_length=16), normalize=True)
    torch.testing.assert_close(TextTower("tiny-clip", weights).encode(sentences, batch_size=2), expected)


def test_wrong_names_and_weights_are_one_line(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"text_tower='tiny-clop' is unknown to open_clip; nearest: tiny-clip"):
        TextTower("tiny-clop", weights)
    save_file({"text_projection": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors"):
        TextTower("tiny-clip", tmp_path / "other.safetensors")


def test_a_missing_package_names_the_extra(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(UserError, match=r"text towers need open_clip .*: pip install 'proteus-toolbox\[text\]'"):
        TextTower("ViT-B-16", weights)
