"""Towers, teacher, student and a training step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from data_samples import data_samples
from mmengine.optim import OptimWrapper
from safetensors.torch import save_file

from projects.dime_fm.agreement import ScoreAgreement
from projects.dime_fm.distiller import UnpairedDistiller
from projects.dime_fm.dual_encoder import DualEncoder
from proteus.checkpoints import CheckpointError
from proteus.evaluation.text.open_clip_parts import open_clip, tokenizer

SENTENCES = ["a dog", "two cats on a mat", "the sea", "a red house", "nothing at all"]
IMAGE = {"type": "ViT", "arch": "clip-base", "patch_size": 14, "embed_dim": 128, "depth": 2, "num_heads": 2}
TEXT = {"type": "OpenClipText", "width": 64, "layers": 2, "heads": 2, "context_length": 16}


def encoder(**changes: Any) -> dict[str, Any]:
    return {"type": "DualEncoder", "embed_dim": 32, "img_size": 28, "image": IMAGE, "text": TEXT, **changes}


def student(**changes: Any) -> dict[str, Any]:
    image = {**IMAGE, "embed_dim": 48, "depth": 1, "num_heads": 3}
    return encoder(**{"image": image, "text": {**TEXT, "width": 32, "layers": 1}, **changes})


LOSSES = {
    "score": {"type": "ScoreDistillationLoss", "weight": 0.7},
    "pseudo_images": {"type": "PseudoPairLoss", "weight": 0.3, "temperature": 3.0},
    "pseudo_texts": {"type": "PseudoPairLoss", "modality": "texts", "weight": 0.3, "temperature": 3.0},
    "distances": {"type": "DistancePreservingLoss", "weight": 0.1},
}


def distiller(**changes: Any) -> UnpairedDistiller:
    torch.manual_seed(0)
    teacher = {"type": "FrozenDualEncoder", "encoder": encoder(scale=20.0), "seed": 3}
    return UnpairedDistiller(**{"teacher": teacher, "student": student(), "losses": LOSSES, **changes})


def batch() -> dict[str, Any]:
    images = torch.randint(0, 256, (4, 3, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return {
        "inputs": images,
        "tokens": tokenizer()(SENTENCES, context_length=16),
        "data_samples": data_samples(*({} for _ in images)),
    }


def test_towers_are_open_clips(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vision = {"image_size": 28, "layers": 2, "width": 128, "patch_size": 14}
    text = {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
    clip = open_clip().CLIP(32, vision, text, quick_gelu=True).eval()
    state = {key: value.contiguous() for key, value in clip.state_dict().items()}
    file = tmp_path / "clip.safetensors"
    save_file(state, file)
    ours = DualEncoder(**{key: value for key, value in encoder(checkpoint=file).items() if key != "type"}).eval()
    data = batch()
    images = data["inputs"] / 255
    with torch.no_grad():
        torch.testing.assert_close(ours.encode_images(images), clip.encode_image(images), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.encode_texts(data["tokens"]), clip.encode_text(data["tokens"]))
    assert ours.logit_scale.item() == clip.logit_scale.item()

    save_file({key: value for key, value in state.items() if key != "visual.proj"}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match=r"has no 'visual.proj', so it is not a complete CLIP"):
        DualEncoder(image=IMAGE, text=TEXT, embed_dim=32, img_size=28, checkpoint=tmp_path / "part.safetensors")
    visual = {key: value for key, value in state.items() if key.startswith("visual.") or key == "logit_scale"}
    save_file(visual, tmp_path / "visual.safetensors")
    with pytest.raises(CheckpointError, match="has no CLIP text tower"):
        DualEncoder(image=IMAGE, text=TEXT, embed_dim=32, img_size=28, checkpoint=tmp_path / "visual.safetensors")
    with pytest.raises(CheckpointError, match=r"model.teacher.encoder.checkpoint: weights not found"):
        distiller(teacher={"type": "FrozenDualEncoder", "encoder": encoder(checkpoint="none.pt")})


def test_gradients_reach_only_the_student() -> None:
    model = distiller()
    before = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    logged = model.train_step(batch(), optimizer)
    assert set(logged) == {"loss", *(f"loss_{name}" for name in LOSSES)}
    optimizer.optimizer.zero_grad()
    model.train()
    sum(model(**model.data_preprocessor(batch(), True), mode="loss").values()).backward()
    without = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    # The key's part of an attention bias shifts all scores alike, and a bias is one vector for query, key and value.
    assert without == []
    assert all(value.grad is None and not value.requires_grad for value in model.teacher.parameters())
    for name, value in model.teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not model.teacher.training


def test_teacher_is_not_saved_or_copied() -> None:
    model = distiller()
    assert {name.split(".")[0] for name in model.state_dict()} == {"student"}
    assert copy.deepcopy(model).teacher is model.teacher
    assert model.student.logit_scale.exp().item() == pytest.approx(20.0)
    torch.manual_seed(99)
    again = distiller()
    assert torch.equal(again.teacher.encoder.projection.weight, model.teacher.encoder.projection.weight)


def test_terms_ignore_the_order_of_sentences() -> None:
    model = distiller().eval()
    data = model.data_preprocessor(batch(), True)
    terms = model.terms(data["inputs"], data["tokens"])
    shuffled = model.terms(data["inputs"], data["tokens"][torch.tensor([3, 0, 4, 1, 2])])
    turned = model.terms(data["inputs"].flip(0), data["tokens"])
    for name, value in terms.items():
        torch.testing.assert_close(shuffled[name], value, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(turned[name], value, atol=1e-5, rtol=1e-4)


def test_a_copy_of_the_teacher_has_zero_loss() -> None:
    model = distiller(student=encoder())
    model.student.load_state_dict(model.teacher.encoder.state_dict())
    terms = model.eval()(**model.data_preprocessor(batch(), True), mode="loss")
    assert all(value.item() == pytest.approx(0, abs=1e-5) for value in terms.values())
    metric = ScoreAgreement()
    data = batch()
    data["tokens"] = data["tokens"][:4]
    metric.process(data, model.val_step(data))
    found = metric.compute_metrics(metric.results)
    assert found["kl"] == pytest.approx(0, abs=1e-5)
    assert found["kl_constant"] > 0
    assert [found[name] for name in ("rank", "centred", "image_cosine", "text_cosine")] == pytest.approx([1] * 4)


def test_a_student_may_share_the_text_tower() -> None:
    losses = {name: LOSSES[name] for name in ("score", "pseudo_images")}
    model = distiller(student=student(text=None), losses=losses)
    data = model.data_preprocessor(batch(), True)
    assert torch.equal(model.encode_texts(data["tokens"]), model.teacher.encode_texts(data["tokens"]))
    sum(model(**data, mode="loss").values()).backward()
    assert all(value.grad is not None for value in model.parameters())


def test_a_student_may_be_a_cnn() -> None:
    model = distiller(student=student(image={"type": "TimmBackbone", "arch": "mobilenetv3_small_050"}))
    data = model.data_preprocessor(batch(), True)
    assert model(data["inputs"]).shape == (4, 32)
    sum(model(**data, mode="loss").values()).backward()
    assert model.student.image.model.conv_stem.weight.grad.any()


def test_agreement_by_hand() -> None:
    """A student that ignores the images can rank well if some sentences suit all images, but scores 0 once centred."""
    texts = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
    images = F.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.3]]), dim=-1)
    results = [
        {
            "student_image": torch.tensor([1.0, 0.0]),
            "teacher_image": images[i],
            "student_texts": texts[2 * i : 2 * i + 2],
            "teacher_texts": texts[2 * i : 2 * i + 2],
            "scale": torch.tensor(5.0),
        }
        for i in range(2)
    ]
    found = ScoreAgreement().compute_metrics(results)
    scores = 5 * images @ texts.T
    log_p, log_q = scores.log_softmax(1), (5 * texts[:, 0]).log_softmax(0)
    assert found["kl"] == pytest.approx((log_p.exp() * (log_p - log_q)).sum(1).mean().item(), rel=1e-4)
    constant = log_p.exp().mean(0).log()
    assert found["kl_constant"] == pytest.approx((log_p.exp() * (log_p - constant)).sum(1).mean().item(), rel=1e-3)
    assert found["rank"] == pytest.approx(1.0)
    assert found["centred"] == pytest.approx(0.0, abs=1e-4)
    replaced = {**results[0], "corrupt": ["broken.jpg"], "student_texts": texts[:0], "teacher_texts": texts[:0]}
    assert ScoreAgreement().compute_metrics([*results, replaced]) == found
    with pytest.raises(ValueError, match="ScoreAgreement needs sentences"):
        ScoreAgreement().process({}, [{"student_image": images[0]}])


def test_zero_shot_follows_the_weights() -> None:
    model = distiller(zero_shot={"type": "PromptEnsemble", "names": ["dog", "cat", "house"]}).eval()
    data = {**batch(), "tokens": None}
    first = model.val_step(data)
    images = model.encode_images(model.data_preprocessor(data)["inputs"])
    tokens = tokenizer()(["a photo of a dog.", "a photo of a cat.", "a photo of a house."], context_length=16)
    torch.testing.assert_close(first[1]["student_logits"], 20 * model.encode_texts(tokens) @ images[1])
    with torch.no_grad():
        model.student.text.transformer.text_projection.add_(torch.randn(32, 32))  # type: ignore[union-attr]
    second = model.train().eval().val_step(data)
    assert not torch.allclose(second[1]["student_logits"], first[1]["student_logits"])
    assert torch.equal(second[1]["teacher_logits"], first[1]["teacher_logits"])
    with pytest.raises(ValueError, match=r"label 3 \(counted from 0\), but model.zero_shot.names has 3 names"):
        model.val_step({**data, "data_samples": data_samples(*({"label": label} for label in (0, 1, 2, 3)))})


def test_mismatches_are_reported() -> None:
    with pytest.raises(ValueError, match=r"model.losses is empty"):
        distiller(losses={"score": None})
    with pytest.raises(ValueError, match=r"model.student.embed_dim=16, .* set model.student.embed_dim=32"):
        distiller(student=student(embed_dim=16))
    with pytest.raises(ValueError, match=r"model.student.text.context_length=77, but the teacher reads 16"):
        distiller(student=student(text={**TEXT, "context_length": 77}))
    with pytest.raises(ValueError, match=r"model.losses \['pseudo_texts'\] compare texts"):
        distiller(student=student(text=None))
    with pytest.raises(ValueError, match=r"text.heads=3 does not divide text.width=64"):
        distiller(student=student(text={**TEXT, "heads": 3}))
    model = distiller()
    images = torch.zeros(2, 3, 28, 28)
    with pytest.raises(ValueError, match="the batch has no sentences"):
        model(images, mode="loss")
    with pytest.raises(ValueError, match=r"set dataset.sentences.context_length=16"):
        model(images, torch.zeros(2, 77, dtype=torch.long), mode="loss")
