"""Image-text retrieval of a tiny backbone, by prepared caption embeddings and by a text tower."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from protocol_runs import PIPELINE
from safetensors.torch import save_file

import proteus
from proteus.apis.evaluate_by_name import default_protocols
from proteus.evaluation.protocols import Retrieval
from proteus.evaluation.text import TextTower
from proteus.structures import ConfigError, UserError

COUNT = 12
CAPTIONS = [[f"picture {number}", f"Bild {number}"][: 1 + number % 2] for number in range(COUNT)]
FLAT = [caption for own in CAPTIONS for caption in own]
EMBEDDINGS = np.random.default_rng(1).normal(size=(len(FLAT), 64)).astype("float32")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images with one or two captions each, and the embeddings of the captions next to their folder."""
    root = tmp_path_factory.mktemp("retrieval") / "photos"
    root.mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for number, own in enumerate(CAPTIONS):
        pixels = np.clip(generator.normal(generator.integers(0, 255, 3), 40, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
        rows.append(json.dumps({"image": f"{number}.png", "captions": own}))
    (root / "captions.jsonl").write_text("\n".join(rows))
    np.save(root.parent / "captions.npy", EMBEDDINGS)
    (root.parent / "captions.txt").write_text("\n".join(FLAT))
    return root


def run(photos: Path, out: Path, overrides: Mapping[str, Any], **options: Any) -> Any:
    results = proteus.evaluate(
        "random:test_vit",
        sets=[photos],
        out=out,
        img_size=32,
        cache=photos.parent / "features",
        device="cpu",
        workers=0,
        overrides={f"protocol.{key}": str(value) for key, value in overrides.items()},
        **options,
    )
    return results["retrieval"]


def test_recalls_are_those_of_sorted_cosines(photos: Path, tmp_path: Path) -> None:
    assert default_protocols([photos]) == ("retrieval",)
    result = run(photos, tmp_path, {"caption_embeddings": photos.parent / "captions.npy"})
    assert result.failed == {}
    (table,) = (photos.parent / "features").glob("photos-test-cls-*")
    tokens = np.load(table / "features.npy")[:, 0]
    cosines = (tokens / np.linalg.norm(tokens, axis=1, keepdims=True)) @ (
        EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True)
    ).T
    owner = np.repeat(np.arange(COUNT), [len(own) for own in CAPTIONS])
    expected: dict[str, float] = {}
    for k in (1, 5, 10):
        texts = [(owner[np.argsort(-row)[:k]] == image).any() for image, row in enumerate(cosines)]
        images = [owner[caption] in np.argsort(-row)[:k] for caption, row in enumerate(cosines.T)]
        expected |= {f"text R@{k}": 100 * np.mean(texts), f"image R@{k}": 100 * np.mean(images)}
    row = result.rows["photos"]
    assert {key: row[key] for key in expected} == pytest.approx(expected)
    assert 0 < row["image R@5"] < 100
    assert (row["images"], row["captions"]) == (COUNT, len(FLAT))
    assert result.notes[0] == "caption embeddings: captions.npy; image projection: none"
    report = (tmp_path / "report.md").read_text()
    assert "| text R@1 | text R@5 | text R@10 | image R@1 | image R@5 | image R@10 | images | captions |" in report
    assert json.loads((tmp_path / "report.json").read_text())["protocols"]["retrieval"]["rows"]["photos"] == row


def test_changed_captions_are_evaluated_and_images_are_not_encoded_again(photos: Path, tmp_path: Path) -> None:
    file = {"caption_embeddings": photos.parent / "captions.npy"}
    before = run(photos, tmp_path, file).rows["photos"]
    text = (photos / "captions.jsonl").read_text()
    try:
        (photos / "captions.jsonl").write_text(text.replace('"picture 1", "Bild 1"', '"Bild 1"'))
        after = run(photos, tmp_path, file).rows["photos"]
        (photos / "captions.jsonl").write_text(text.replace("picture 4", "a new one"))
        failed = run(photos, tmp_path, file).failed["photos"]
    finally:
        (photos / "captions.jsonl").write_text(text)
    assert (before["captions"], after["captions"]) == (len(FLAT), len(FLAT) - 1)
    assert (
        f"captions.npy has no caption 'a new one' (1 of {len(FLAT)} captions are missing); it has 'picture 0'" in failed
    )
    assert len(list((photos.parent / "features").glob("photos-test-cls-*"))) == 1


def test_a_text_tower_embeds_the_sentences_of_the_template(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Tower(TextTower):
        def __init__(self, *arguments: Any) -> None:
            assert arguments[0] == "tiny-clip"

        def encode(self, sentences: Any, batch_size: int = 256) -> torch.Tensor:
            seen.extend(sentences)
            return torch.nn.functional.normalize(torch.from_numpy(EMBEDDINGS), dim=-1)

    monkeypatch.setattr("proteus.evaluation.protocols.text_protocol.TextTower", Tower)
    weights = photos.parent / "weights.safetensors"
    save_file({"a": torch.ones(1)}, weights)
    expected = run(photos, tmp_path / "a", {"caption_embeddings": photos.parent / "captions.npy"}).rows
    options = {"text_tower": "tiny-clip", "text_weights": weights, "template": "a photo of {}"}
    result = run(photos, tmp_path / "b", options)
    assert seen == [f"a photo of {caption}" for caption in FLAT]
    assert result.rows == expected
    assert result.notes[0] == "text tower: tiny-clip, template 'a photo of {}'; image projection: none"


def test_wrong_options_and_sets_are_refused(photos: Path, tmp_path: Path) -> None:
    sets = {"photos": {"type": "CaptionedImages", "data_root": str(photos)}}
    for options, words in (
        ({"caption_embeddings": "none.npy"}, "protocol.caption_embeddings: none.npy is missing"),
        ({"template": "a photo"}, r"protocol.template='a photo': write a sentence with \{\} for the caption"),
    ):
        with pytest.raises(ValueError, match=words):
            Retrieval(sets=sets, pipeline=PIPELINE, **options)
    with pytest.raises(UserError, match=r"caption_embeddings and protocol.text_tower are missing: write one of them"):
        run(photos, tmp_path, {})
    with pytest.raises(ConfigError, match=r"zero-shot reads train/CLASS/IMAGE.jpg .* none of the folders has"):
        run(photos, tmp_path, {}, protocols=["zero-shot"])
    one = tmp_path / "one"
    one.mkdir()
    Image.new("RGB", (32, 32)).save(one / "a.png")
    (one / "captions.csv").write_text("image,caption\na.png,picture 0\n")
    failed = run(one, tmp_path / "out", {"caption_embeddings": photos.parent / "captions.npy"}).failed["one"]
    assert "has one image, which is always found" in failed
    (one / "captions.csv").write_text("image,caption\nb.png,picture 0\n")
    with pytest.raises(UserError, match=r"--sets '.*one': 1 of the 1 images in .* are missing"):
        run(one, tmp_path / "out", {})
