"""Checkpoints that hold more than one model: which is taken, and how another is asked for."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.logging import HistoryBuffer
from torch import Tensor

from proteus.checkpoints import CheckpointError, locate, read_state_dict, to_timm_keys
from proteus.models import Distiller, ViT

NARROW: dict[str, Any] = {"img_size": 56, "embed_dim": 24, "depth": 2, "num_heads": 3}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def vit(seed: int, **options: Any) -> ViT:
    torch.manual_seed(seed)
    return ViT("tiny", **{**NARROW, **options})


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, dict[str, dict[str, Tensor]]]:
    """A file in the released layout (docs/reproduction.md#released-checkpoints), and its backbones."""
    states = {name: vit(seed).timm_state() for seed, name in enumerate(("student", "teacher", "ema"))}
    states["student"]["mask_token"] = torch.full((1, 24), 2.0)
    states["ema"]["mask_token"] = torch.full((1, 24), 3.0)
    model = {f"{name}.backbone.{key}": states[name][key] for name in ("student", "teacher") for key in states[name]}
    for head in ("token_head", "fea_head", "patch_head"):
        model |= {f"{head}.0.weight": torch.ones(24), f"{head}.0.bias": torch.zeros(24)}
        model |= {f"{head}.1.weight": torch.ones(32, 24), f"{head}.1.bias": torch.zeros(32)}
    content = {
        "model": model,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]},
        "lr_scheduler": {"base_values": [1e-3]},
        "epoch": 299,
        "model_ema": states["ema"],
        "scaler": {"scale": 65536.0, "_growth_tracker": 0},
        "args": argparse.Namespace(model="models_proteus_dinov2", lr=5e-4, mask_ratio=(0.5,)),
    }
    torch.save(content, tmp_path / "checkpoint.pth")
    return tmp_path / "checkpoint.pth", states


@pytest.mark.parametrize(
    ("part", "name"), [("", "student"), ("#student", "student"), ("#teacher", "teacher"), ("#ema", "ema")]
)
def test_each_model_of_a_published_checkpoint(published: Any, part: str, name: str) -> None:
    path, states = published
    assert same(to_timm_keys(read_state_dict(f"{path}{part}")), states[name])
    loaded = vit(7, mask_token=True, checkpoint=f"{path}{part}")
    assert torch.equal(loaded.vit.pos_embed, states[name]["pos_embed"])
    wanted = states[name].get("mask_token", torch.zeros(1, 24))
    assert loaded.mask_token is not None
    assert torch.equal(loaded.mask_token, wanted)


@pytest.mark.parametrize("wrapper", ["module.", ""])
def test_backbone_alone(published: Any, wrapper: str, tmp_path: Path) -> None:
    _, states = published
    torch.save({f"{wrapper}{key}": value for key, value in states["student"].items()}, tmp_path / "alone.pth")
    assert same(to_timm_keys(read_state_dict(tmp_path / "alone.pth")), states["student"])


def test_synclrs_form(tmp_path: Path) -> None:
    # timm's early names, no LayerScale, mask token (1, 1, D); the teacher under module.visual
    # (docs/reproduction.md#synclr-and-clip).
    state = vit(0, init_values=None).timm_state()
    teacher = {f"module.visual.{key}": value for key, value in state.items()}
    torch.save({"model": {**teacher, "module.mlp.0.weight": torch.zeros(3)}, "epoch": 1}, tmp_path / "synclr.pth")
    student = {f"student.backbone.{key}": value for key, value in state.items()}
    torch.save(
        {"model": {**student, "student.backbone.mask_token": torch.full((1, 1, 24), 5.0)}}, tmp_path / "student.pth"
    )
    assert same(vit(1, init_values=None, checkpoint=tmp_path / "synclr.pth").timm_state(), state)
    loaded = vit(1, init_values=None, mask_token=True, checkpoint=tmp_path / "student.pth")
    assert same(loaded.timm_state(), state)
    assert loaded.mask_token is not None
    assert loaded.mask_token.tolist() == [[5.0] * 24]
    with pytest.raises(CheckpointError, match=r"0 registers; the file: ViT .* 0 registers, no LayerScale"):
        vit(1, checkpoint=tmp_path / "synclr.pth")


def test_missing_parts_are_reported(tmp_path: Path) -> None:
    torch.save({"model": vit(0).timm_state()}, tmp_path / "plain.pth")
    for part in ("ema", "teacher", "student"):
        with pytest.raises(CheckpointError, match=rf"plain\.pth holds nothing called {part}: leave '#{part}' off"):
            read_state_dict(f"{tmp_path}/plain.pth#{part}")


def test_file_names_may_contain_a_hash(tmp_path: Path) -> None:
    torch.save(vit(0).timm_state(), tmp_path / "run#3.pth")
    assert locate(tmp_path / "run#3.pth") == tmp_path / "run#3.pth"
    assert locate(f"{tmp_path}/run#3.pth#ema") == tmp_path / "run#3.pth"
    assert read_state_dict(tmp_path / "run#3.pth")


def test_self_distilled_models_give_their_teacher(tmp_path: Path) -> None:
    # DINO and iBOT keep the model to use under this name, along with a student.
    states = [{f"module.backbone.{key}": value for key, value in vit(seed).timm_state().items()} for seed in (0, 1)]
    torch.save({"student": states[0], "teacher": states[1]}, tmp_path / "ibot.pth")
    for part, seed in (("", 1), ("#teacher", 1), ("#student", 0)):
        assert same(to_timm_keys(read_state_dict(f"{tmp_path}/ibot.pth{part}")), vit(seed).timm_state())


@pytest.fixture
def ours(tmp_path: Path) -> tuple[Path, Distiller, Distiller]:
    """A training checkpoint as MMEngine writes it with an EMA, the model and its average."""
    backbone = {"type": "ViT", "arch": "tiny", **NARROW}
    model = Distiller({"type": "Teacher", "backbone": backbone}, dict(backbone), {"token": {"type": "TokenObjective"}})
    hook = EMAHook()
    runner: Any = SimpleNamespace(model=model)
    hook.before_run(runner)
    average = hook.ema_model.module
    for parameter in average.parameters():
        parameter.data.add_(1)
    buffers = {"train/loss": HistoryBuffer([1.0, 2.0], [1, 1])}
    checkpoint = {"state_dict": dict(model.state_dict()), "message_hub": {"log_scalars": buffers}, "meta": {"iter": 3}}
    hook.before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, tmp_path / "iter_3.pth")
    return tmp_path / "iter_3.pth", model, average


def test_trained_student_is_taken_although_mmengine_swaps_it_with_its_average(ours: Any) -> None:
    path, model, average = ours
    # What the hook does: the average lies where the weights belong.
    swapped = torch.load(path, weights_only=False)["state_dict"]
    assert torch.equal(swapped["student.vit.norm.bias"], average.student.vit.norm.bias)
    assert same(to_timm_keys(read_state_dict(path)), model.student.timm_state())
    assert same(to_timm_keys(read_state_dict(f"{path}#ema")), average.student.timm_state())


def test_without_an_average_ours_gives_the_student(tmp_path: Path) -> None:
    state = {f"student.{key}": value for key, value in vit(0).state_dict().items()}
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "iter_1.pth")
    assert same(to_timm_keys(read_state_dict(tmp_path / "iter_1.pth")), vit(0).timm_state())
    with pytest.raises(CheckpointError, match="holds nothing called ema"):
        read_state_dict(f"{tmp_path}/iter_1.pth#ema")


def under(prefix: str, seed: int) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": value for key, value in vit(seed).timm_state().items()}


def test_several_models_are_listed_and_each_can_be_named(tmp_path: Path) -> None:
    # lightly-train's names.
    path = tmp_path / "last.ckpt"
    names = ("teacher_embedding_model.wrapped", "student_embedding_model.wrapped")
    torch.save({"state_dict": {**under(names[0], 0), **under(names[1], 1)}}, path)
    with pytest.raises(CheckpointError, match=r"last\.ckpt holds several models \(#student_.*, #teacher_.*such as"):
        to_timm_keys(read_state_dict(path))
    for seed, name in enumerate(names):
        for part in (name, name.split(".")[0], name.split("_")[0]):
            found = to_timm_keys(read_state_dict(f"{path}#{part}"))
            assert same(found, vit(seed).timm_state()), part
    assert same(ViT("tiny", checkpoint=f"{path}#student", **NARROW).timm_state(), vit(1).timm_state())
    with pytest.raises(CheckpointError, match=r"holds nothing called pupil: leave '#pupil' off.*#teacher"):
        read_state_dict(f"{path}#pupil")


@pytest.mark.parametrize("names", [("a", "b"), ("model", "momentum_model"), ("teacher.x", "teacher.y")])
def test_models_without_an_order_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    torch.save({"state_dict": {**under(names[0], 0), **under(names[1], 1)}}, tmp_path / "two.pth")
    with pytest.raises(CheckpointError, match=rf"two\.pth holds several models .*two\.pth#{names[0]}"):
        to_timm_keys(read_state_dict(tmp_path / "two.pth"))
    for seed, name in enumerate(names):
        assert same(to_timm_keys(read_state_dict(f"{tmp_path}/two.pth#{name}")), vit(seed).timm_state())


def test_weights_without_a_prefix_come_first(tmp_path: Path) -> None:
    torch.save({**vit(0).timm_state(), **under("momentum", 1)}, tmp_path / "two.pth")
    found = to_timm_keys(read_state_dict(tmp_path / "two.pth"))
    assert same({key: value for key, value in found.items() if "momentum" not in key}, vit(0).timm_state())
    found = to_timm_keys(read_state_dict(f"{tmp_path}/two.pth#momentum"))
    assert same(found, vit(1).timm_state())


def test_entries_of_a_checkpoint_can_be_named(tmp_path: Path) -> None:
    content = {"generator": vit(0).timm_state(), "critic": vit(1).timm_state(), "epoch": 3}
    torch.save(content, tmp_path / "gan.pth")
    with pytest.raises(CheckpointError, match=r"gan\.pth holds several models \(#generator, #critic\): .*#generator"):
        read_state_dict(tmp_path / "gan.pth")
    assert same(read_state_dict(f"{tmp_path}/gan.pth#critic"), content["critic"])
    torch.save({"net": vit(0).timm_state(), "optimizer": {"state": {}}}, tmp_path / "net.pth")
    assert same(read_state_dict(tmp_path / "net.pth"), vit(0).timm_state())
    assert same(read_state_dict(f"{tmp_path}/net.pth#net"), vit(0).timm_state())


@pytest.mark.parametrize("name", ["ema_state_dict", "model_ema", "state_dict_ema", "ema", "ema_model"])
def test_an_average_alone_and_together_with_a_model(name: str, tmp_path: Path) -> None:
    average, model = vit(0).timm_state(), vit(1).timm_state()
    torch.save({name: average}, tmp_path / "alone.pth")
    torch.save({name: average, "model": model}, tmp_path / "both.pth")
    for part in ("alone.pth", "alone.pth#ema", "both.pth#ema", f"both.pth#{name}"):
        assert same(read_state_dict(f"{tmp_path}/{part}"), average), part
    assert same(read_state_dict(tmp_path / "both.pth"), model)


def test_mmengines_swap_holds_for_every_model(tmp_path: Path) -> None:
    # Its EMAHook saves the average as the weights.
    torch.save({"state_dict": vit(0).timm_state(), "ema_state_dict": vit(1).timm_state()}, tmp_path / "epoch_1.pth")
    for part, seed in (("", 0), ("#ema", 0), ("#ema_state_dict", 1)):
        assert same(read_state_dict(f"{tmp_path}/epoch_1.pth{part}"), vit(seed).timm_state()), part


@pytest.mark.parametrize("entry", [None, 3, [1], {}, "x", torch.zeros(2)])
def test_odd_entries_are_not_models(entry: Any, tmp_path: Path) -> None:
    for name in ("ema_state_dict", "model_ema", "state_dict"):
        torch.save({"model": vit(0).timm_state(), name: entry}, tmp_path / "odd.pth")
        if name != "state_dict" or entry != {}:
            assert "cls_token" in to_timm_keys(read_state_dict(tmp_path / "odd.pth"))
        with pytest.raises(CheckpointError, match="holds n"):
            read_state_dict(f"{tmp_path}/odd.pth#ema")


@pytest.mark.parametrize("name", ["a#b.pth", "a#b#c.pth", "#.pth", "a.pth#"])
def test_marks_in_file_names(name: str, tmp_path: Path) -> None:
    torch.save(vit(0).timm_state(), tmp_path / name)
    assert locate(tmp_path / name) == tmp_path / name
    assert same(read_state_dict(tmp_path / name), vit(0).timm_state())


def test_escapes_in_names_are_refused(tmp_path: Path) -> None:
    torch.save({"\x1b[2Jweight": torch.zeros(2)}, tmp_path / "escape.pth")
    with pytest.raises(CheckpointError) as refused:
        read_state_dict(tmp_path / "escape.pth")
    assert str(refused.value).isprintable()
    assert "is not the name of a tensor" in str(refused.value)
