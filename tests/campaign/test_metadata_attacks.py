"""Weight files with a hostile description: each is refused in one line by every reader, and nothing in it is run."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import ROOT, write_config, write_images
from safetensors.torch import save_file

from proteus.checkpoints import CheckpointError, convert, inspect_file, read_state_dict
from proteus.checkpoints.description import check_description, read_description
from proteus.checkpoints.training import load_checkpoint
from proteus.cli.run import run
from proteus.models import ViT, build_backbone
from proteus.models.backbones import locate_backbone

SIZES: dict[str, Any] = {"img_size": 56, "embed_dim": 64, "depth": 2, "num_heads": 4}
GOOD: dict[str, Any] = {
    "architecture": "vit_tiny_patch16_224",
    "arguments": {**SIZES, "patch_size": 14, "init_values": 1.0, "reg_tokens": 0, "no_embed_class": False},
    "mean": [0.5, 0.5, 0.5],
    "std": [0.2, 0.2, 0.2],
    "teacher": "random",
}


def asking(**arguments: Any) -> dict[str, Any]:
    return {**GOOD, "arguments": {**GOOD["arguments"], **arguments}}


def named(architecture: Any, **arguments: Any) -> dict[str, Any]:
    return {**GOOD, "architecture": architecture, "arguments": arguments}


TOUCH = "touch {canary}"
# What is written under "proteus", and the field that the message names. {canary} is a file, {module} a module that
# makes it when it is imported, {folder} a folder with a config and weights.
ATTACKS: dict[str, tuple[Any, str]] = {
    "function": (named("subprocess.getoutput", cmd=TOUCH), "architecture"),
    "os.system": (named("os.system", command=TOUCH), "architecture"),
    "import": (named("{module}.Thing"), "architecture"),
    "nested import": (named("mmpretrain.{module}.Thing"), "architecture"),
    "scope mmengine": (named("mmengine.EMAHook"), "architecture"),
    "scope proteus": (named("proteus.ImageFolder", data_root="/"), "architecture"),
    "scope torch": (named("torch.hub.load", repo_or_dir="{folder}"), "architecture"),
    "hub": (named("hf-hub:timm/vit_tiny_patch16_224"), "architecture"),
    "hub alias": (named("hf_hub:timm/vit_tiny_patch16_224"), "architecture"),
    "local folder": (named("local-dir:{folder}"), "architecture"),
    "path": (named("../../{folder}/model"), "architecture"),
    "absolute path": (named("{folder}/config.json"), "architecture"),
    "newline": (named("vit_tiny_patch16_224\n"), "architecture"),
    "escape": (named("\x1b]0;owned\x07vit_tiny_patch16_224"), "architecture"),
    "not text": (named({"type": "os.system"}), "architecture"),
    "number": (named(7), "architecture"),
    "type": (asking(type="subprocess.getoutput", cmd=TOUCH), "arguments"),
    "type in a list": (asking(norm_cfg=[{"type": "subprocess.getoutput", "cmd": TOUCH}]), "arguments.norm_cfg"),
    "type in a layer": (asking(norm_cfg={"type": "subprocess.getoutput"}), "arguments.norm_cfg"),
    "type in layers": (asking(layer_cfgs={"act_cfg": {"type": "{module}.Thing"}}), "arguments.layer_cfgs"),
    "scope": (asking(_scope_="mmengine"), "arguments"),
    "delete": (asking(_delete_=True), "arguments"),
    "base": (asking(_base_="{folder}/config.py"), "arguments"),
    "checkpoint_path": (asking(checkpoint_path="{folder}/weights.pth"), "arguments"),
    "checkpoint": (asking(checkpoint="{folder}/weights.pth"), "arguments"),
    "pretrained": (asking(pretrained=True), "arguments"),
    "pretrained file": (asking(pretrained="{folder}/weights.pth"), "arguments"),
    "pretrained_cfg": (asking(pretrained_cfg={"file": "{folder}/weights.pth", "custom_load": True}), "arguments"),
    "pretrained_cfg url": (asking(pretrained_cfg={"url": "http://localhost:9/weights.pth"}), "arguments"),
    "overlay": (asking(pretrained_cfg_overlay={"file": "{folder}/weights.pth"}), "arguments"),
    "init_cfg": (asking(init_cfg={"type": "Pretrained", "checkpoint": "{folder}/weights.pth"}), "arguments"),
    "init_cfg function": (asking(init_cfg={"type": "subprocess.getoutput"}), "arguments"),
    "cache_dir": (asking(cache_dir="{folder}"), "arguments"),
    "class by name": (asking(norm_layer="subprocess.getoutput"), "arguments.norm_layer"),
    "activation by name": (asking(act_layer="{module}.Thing"), "arguments.act_layer"),
    "block": (asking(block_fn="{module}.Thing"), "arguments"),
    "dunder": (asking(__class__="os.system"), "arguments"),
    "model_name": (asking(model_name="hf-hub:timm/x"), "arguments"),
    "depth": (asking(depth=10**9), "arguments.depth"),
    "depth 0": (asking(depth=0), "arguments.depth"),
    "negative depth": (asking(depth=-1), "arguments.depth"),
    "depth as text": (asking(depth="12"), "arguments.depth"),
    "depth as flag": (asking(depth=True), "arguments.depth"),
    "depth as fraction": (asking(depth=2.5), "arguments.depth"),
    "width": (asking(embed_dim=10**7), "arguments.embed_dim"),
    "side": (asking(img_size=10**6), "arguments.img_size"),
    "drop path 2": (asking(drop_path_rate=2.0), "arguments.drop_path_rate"),
    "not a number": (asking(drop_path_rate=float("nan")), "arguments.drop_path_rate"),
    "levels": (asking(out_indices=list(range(100000))), "arguments.out_indices"),
    "arguments as list": ({**GOOD, "arguments": [1, 2]}, "arguments"),
    "arguments as text": ({**GOOD, "arguments": TOUCH}, "arguments"),
    "no arguments": ({key: value for key, value in GOOD.items() if key != "arguments"}, "arguments"),
    "no mean": ({key: value for key, value in GOOD.items() if key != "mean"}, "mean"),
    "no std": ({key: value for key, value in GOOD.items() if key != "std"}, "std"),
    "mean of two": ({**GOOD, "mean": [0.5, 0.5]}, "mean"),
    "mean of text": ({**GOOD, "mean": ["a", "b", "c"]}, "mean"),
    "mean of flags": ({**GOOD, "mean": [True, True, True]}, "mean"),
    "mean null": ({**GOOD, "mean": None}, "mean"),
    "mean NaN": ({**GOOD, "mean": [float("nan")] * 3}, "mean"),
    "mean huge": ({**GOOD, "mean": [10**400] * 3}, "mean"),
    "std infinite": ({**GOOD, "std": [float("inf")] * 3}, "std"),
    "std 0": ({**GOOD, "std": [0.0, 0.2, 0.2]}, "std"),
    "std negative": ({**GOOD, "std": [-1, 0.2, 0.2]}, "std"),
    "teacher as list": ({**GOOD, "teacher": ["a"]}, "teacher"),
    "iterations as text": ({**GOOD, "iterations": "many"}, "iterations"),
    "list": ([GOOD], "not an object"),
    "null": (None, "not an object"),
    "text": ("vit_tiny_patch16_224", "not an object"),
}
RAW = {
    "no JSON": "subprocess.getoutput('touch {canary}')",
    "cut JSON": '{"architecture": "vit_ti',
    "nothing": "",
    "deep": "[" * 100_000,
    "long number": '{"iterations": ' + "9" * 10_000 + "}",
    "Python": "__import__('os').system('touch {canary}')",
    "YAML": "!!python/object/apply:os.system ['touch {canary}']",
    "very long": " " * 2_000_000,
}


def filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, str):
        for key, word in words.items():
            value = value.replace(f"{{{key}}}", word)
        return value
    if isinstance(value, dict):
        return {key: filled(item, words) for key, item in value.items()}
    return [filled(item, words) for item in value] if isinstance(value, list) else value


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that any code out of a description would make; it must not be there when the test ends."""
    path = tmp_path / "canary"
    (tmp_path / "trap_module.py").write_text(f"open({str(path)!r}, 'w')\nclass Thing: ...\n")
    (tmp_path / "config.py").write_text(f"open({str(path)!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    assert not path.exists()
    assert "trap_module" not in sys.modules


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return ViT("tiny", **SIZES).timm_state()


@pytest.fixture
def attacked(tmp_path: Path, canary: Path, state: dict[str, torch.Tensor]) -> Callable[[str], Path]:
    """Write the weight file of an attack."""

    def write(name: str) -> Path:
        words = {"canary": str(canary), "module": "trap_module", "folder": str(tmp_path)}
        text = filled(RAW[name], words) if name in RAW else json.dumps(filled(ATTACKS[name][0], words))
        save_file(state, tmp_path / "downloaded.safetensors", metadata={"format": "pt", "proteus": text})
        return tmp_path / "downloaded.safetensors"

    return write


def refusal(read: Callable[[], Any]) -> str:
    with pytest.raises(CheckpointError) as refused:
        read()
    message = str(refused.value)
    assert "downloaded.safetensors" in message
    assert "\n" not in message
    assert message.isprintable()
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("name", [*ATTACKS, *RAW])
def test_every_reader_refuses(name: str, attacked: Callable[[str], Path], tmp_path: Path) -> None:
    path = attacked(name)
    readers: list[Callable[[], Any]] = [
        lambda: locate_backbone(str(path)),
        lambda: locate_backbone(str(path), arch="vit_tiny_patch16_224"),
        lambda: inspect_file(path),
        lambda: convert(path, tmp_path / "out.safetensors", "hf"),
        lambda: read_state_dict(path),
        lambda: load_checkpoint(path),
        lambda: ViT("tiny", checkpoint=path, **SIZES),
    ]
    messages = [refusal(read) for read in readers]
    field = ATTACKS[name][1] if name in ATTACKS else "description"
    assert all(field in message for message in messages)
    assert not (tmp_path / "out.safetensors").exists()


def test_the_description_itself_is_good(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, tmp_path / "good.safetensors", metadata={"proteus": json.dumps(GOOD)})
    spec = locate_backbone(str(tmp_path / "good.safetensors"), img_size=56)
    assert spec.config["type"] == "ViT"
    assert torch.equal(spec.build().vit.pos_embed, state["pos_embed"])
    assert spec.mean == (0.5, 0.5, 0.5)


# Names that are registered, but not as backbones: a hook and a data set of MMEngine, losses, heads, whole models.
@pytest.mark.parametrize(
    "name",
    ["ImageClassifier", "CrossEntropyLoss", "EMAHook", "ImageNet", "BatchNorm2d", "TIMMBackbone", "NoSuchThing", "BN"],
)
@pytest.mark.parametrize("scope", ["mmpretrain", "mmseg"])
def test_a_toolbox_gives_backbones_alone(
    scope: str, name: str, tmp_path: Path, canary: Path, state: dict[str, torch.Tensor]
) -> None:
    pytest.importorskip(scope)
    text = json.dumps(named(f"{scope}.{name}"))
    save_file(state, tmp_path / "downloaded.safetensors", metadata={"proteus": text})
    assert f"{scope}.{name}" in refusal(lambda: locate_backbone(str(tmp_path / "downloaded.safetensors")).build())


@pytest.mark.parametrize(
    "description",
    [
        asking(depth=256, embed_dim=16384, num_heads=256),
        named("vit_giant_patch14_dinov2", img_size=896, embed_dim=16384, num_heads=64),
        named("convnext_xxlarge", dims=[16384] * 4, depths=[256] * 4),
        named("mmpretrain.VisionTransformer", arch={"embed_dims": 16384, "num_layers": 256, "num_heads": 256,
              "feedforward_channels": 16384}),
        named("mmpretrain.ResNet", depth=152, base_channels=16384, stem_channels=16384),
        named("mmseg.VisionTransformer", embed_dims=16384, num_layers=256, num_heads=256),
    ],
    ids=["vit", "giant", "convnext", "guest vit", "resnet", "mmseg"],
)  # fmt: skip
def test_terabytes_are_refused(
    description: dict[str, Any], tmp_path: Path, canary: Path, state: dict[str, torch.Tensor]
) -> None:
    if "mm" in description["architecture"]:
        pytest.importorskip(description["architecture"].partition(".")[0])
    save_file(state, tmp_path / "downloaded.safetensors", metadata={"proteus": json.dumps(description)})
    message = refusal(lambda: locate_backbone(str(tmp_path / "downloaded.safetensors")))
    assert "describes a model of more than" in message


def test_guests_are_still_rebuilt(tmp_path: Path) -> None:
    pytest.importorskip("mmpretrain")
    arguments = {"depth": 18, "base_channels": 8, "stem_channels": 8, "expansion": 1, "norm_cfg": {"type": "BN"}}
    guest = build_backbone({"type": "mmpretrain.ResNet", **arguments}).guest
    text = json.dumps(named("mmpretrain.ResNet", **arguments))
    save_file(guest.state_dict(), tmp_path / "guest.safetensors", metadata={"proteus": text})
    spec = locate_backbone(str(tmp_path / "guest.safetensors"))
    assert torch.equal(spec.build().guest.conv1.weight, guest.conv1.weight)


def command(name: str, arguments: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> str:
    """Run a tool of ``tools/`` or a module of ``projects`` in this process; returns what it writes to stderr."""
    if name.startswith("projects"):
        module: Any = importlib.import_module(name)
    else:
        described = importlib.util.spec_from_file_location(f"tool_{Path(name).stem}", ROOT / "tools" / name)
        assert described is not None
        module = importlib.util.module_from_spec(described)
        assert described.loader is not None
        described.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(module.main, module.parse_args())
    assert ended.value.code == 2
    return capsys.readouterr().err


MORE = ["type", "pretrained_cfg", "hub", "scope proteus", "depth", "no JSON"]
END_TO_END = ["function", "checkpoint_path", *(pytest.param(name, marks=pytest.mark.slow) for name in MORE)]


@pytest.mark.parametrize("name", END_TO_END)
def test_tools_and_projects(
    name: str, attacked: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    path = attacked(name)
    monkeypatch.chdir(tmp_path)
    config = write_config(tmp_path, write_images(tmp_path / "images", 4), path)
    infer = ROOT / "configs/nyu/vit-s_linear.py"
    calls: list[tuple[str, list[Any]]] = [
        ("evaluate.py", ["--backbone", path, "--protocols", "knn", "--out", tmp_path / "report"]),
        ("inspect_checkpoint.py", [path]),
        ("convert_checkpoint.py", [path, tmp_path / "out.pth", "--to", "timm"]),
        ("train.py", [config, "--work-dir", tmp_path / "run"]),
        ("train.py", [config, "--work-dir", tmp_path / "run", "--cfg-options",
                      "model.teacher.backbone.checkpoint=None", f"model.student.checkpoint={path}"]),
        ("train.py", [config, "--work-dir", tmp_path / "run", "--cfg-options",
                      "model.teacher.backbone.checkpoint=None", f"load_from={path}"]),
        ("train.py", [config, "--check"]),
        ("projects.task_oriented_transfer.adapt",
         ["--backbone", path, "--train", tmp_path / "images", "--out", tmp_path / "a.pth"]),
    ]  # fmt: skip
    if infer.is_file():
        calls.append(("infer.py", [infer, path, tmp_path / "images", "--out", tmp_path / "shown"]))
    for tool, arguments in calls:
        errors = command(tool, arguments, monkeypatch, capsys)
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, (tool, errors[-2000:])
        assert "downloaded.safetensors" in lines[0], (tool, lines)
        assert "Traceback" not in errors, tool


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
KEYS = st.sampled_from([*GOOD, "iterations", "converted_to", "random", "type"]) | st.text(max_size=10)
ARGUMENT_KEYS = st.sampled_from([*GOOD["arguments"], "norm_cfg", "arch", "out_indices", "checkpoint"]) | st.text()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.dictionaries(KEYS, VALUES, max_size=8), st.dictionaries(ARGUMENT_KEYS, VALUES, max_size=4))
def test_any_description_is_read_or_refused(changes: dict[str, Any], arguments: dict[str, Any]) -> None:
    content = {**asking(**arguments), **changes}
    try:
        description = check_description(content, "file.safetensors: its description")
    except CheckpointError as error:
        message = str(error)
        assert "file.safetensors" in message
        assert message.isprintable()
        return
    assert description.teacher.isprintable()
    assert all(isinstance(number, float) for number in (*(description.mean or ()), *(description.std or ())))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    save_file({"w": torch.zeros(1)}, path, metadata={"proteus": text.encode("utf-8", "ignore").decode()})
    with suppress(CheckpointError):
        read_description(path)
