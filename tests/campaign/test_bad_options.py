"""Wrong options and environment variables of all tools: one line and status 2 before reading or writing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import write_config, write_images, write_teacher

from proteus.apis import ConfigError, load_config, train
from proteus.cli.run import run

ROOT = Path(__file__).parents[2]
Call = Callable[..., tuple[int, str]]

# Tool, arguments with {tmp} and {config} to fill in, and words of the message.
OPTIONS: list[tuple[str, str, str]] = [
    # paths
    ("train", "{config} --work-dir {tmp}/file", "--work-dir: '{tmp}/file' is a file; name a folder"),
    ("train", "{config} --work-dir {tmp}/file/below", "'{tmp}/file' is a file; name a folder"),
    ("train", "{config} --work-dir ''", "found an empty name"),
    ("train", "{config} --work-dir {long}", "name too long"),
    ("train", "{tmp}/nowhere.py", "no such config file"),
    ("train", "{tmp}", "is a folder; name a config file in it"),
    ("test", "{config} x --show-dir {tmp}/file", "--show-dir: '{tmp}/file' is a file"),
    ("test", "{config} {tmp}/nowhere.pth", "no such checkpoint: '{tmp}/nowhere.pth'"),
    ("evaluate", "--backbone x --out {tmp}/file", "--out: '{tmp}/file' is a file"),
    ("evaluate", "--backbone x --cache {tmp}/file", "--cache: '{tmp}/file' is a file"),
    ("infer", "{config} x {tmp} --out {tmp}/file", "--out: '{tmp}/file' is a file"),
    ("infer", "{config} x {tmp} --out {tmp}/o --classes {tmp}/nowhere", "--classes: '{tmp}/nowhere': no such file"),
    ("infer", "{config} x {tmp} --out {tmp}/o --classes {tmp}", "--classes: '{tmp}' is a folder; name a file"),
    ("cache_teacher", "{config} --out {tmp}/file", "--out: '{tmp}/file' is a file"),
    ("pack_shards", "{tmp}/nowhere {tmp}/o", "source: '{tmp}/nowhere': no such folder"),
    ("pack_shards", "{tmp}/file {tmp}/o", "source: '{tmp}/file' is a file; name a folder"),
    ("pack_shards", "{tmp} {tmp}/file", "target: '{tmp}/file' is a file"),
    ("generate_imagenet_c", "{tmp}/nowhere {tmp}/o", "source: '{tmp}/nowhere': no such folder"),
    ("generate_imagenet_c", "{tmp} {tmp}/file", "target: '{tmp}/file' is a file"),
    ("quickstart", "--data {tmp}/nowhere", "--data: '{tmp}/nowhere': no such folder"),
    ("quickstart", "--data {tmp}/file", "--data: '{tmp}/file' is a file"),
    ("quickstart", "--work-dir {tmp}/file", "--work-dir: '{tmp}/file' is a file"),
    ("quickstart", "--config {tmp}/nowhere.py", "no such config file"),
    ("convert_checkpoint", "{tmp}/nowhere.pth {tmp}/o.pth --to timm", "not found: {tmp}/nowhere.pth"),
    ("convert_checkpoint", "{teacher} {tmp}/o.xyz --to timm", "ends in .safetensors or .pth"),
    ("convert_checkpoint", "{teacher} {tmp}/file/o.pth --to timm", "{tmp}/file"),
    ("convert_checkpoint", "{teacher} {teacher} --to timm", "teacher.safetensors is the source file; name another"),
    ("pack_shards", "{tmp}/folder.pth {tmp}/o", "error: source: no images in {tmp}/folder.pth (looked for .jpg, "),
    ("pack_shards", "{tmp}/images {tmp}/images", "images has the images to pack; name another folder"),
    ("generate_imagenet_c", "{tmp}/images {tmp}/images/c", "images/c lies in the folder of the validation images"),
    ("inspect_checkpoint", "{tmp}", "is a folder: name a file in it"),
    ("dataset_converters/nyu", "{tmp}/o --train {tmp}/nowhere.zip", "--train: '{tmp}/nowhere.zip': no such file"),
    # numbers
    ("evaluate", "--backbone x --img-size -1", "--img-size: found '-1', expected a positive integer"),
    ("evaluate", "--backbone x --img-size 5.5", "--img-size: found '5.5', expected a positive integer"),
    ("evaluate", "--backbone x --batch-size 0", "--batch-size: found '0', expected a positive integer"),
    ("evaluate", "--backbone x --workers -1", "--workers: found '-1', expected an integer from 0 to 512"),
    ("cache_teacher", "{config} --batch-size many", "--batch-size: found 'many', expected a positive integer"),
    ("cache_teacher", "{config} --components 0", "--components: found '0', expected a positive integer"),
    ("cache_teacher", "{config} --shard-mb nan", "--shard-mb: found 'nan', expected a positive number"),
    ("cache_teacher", "{config} --shard-mb 0", "--shard-mb: found '0', expected a positive number"),
    ("pack_shards", "{tmp} {tmp}/o --quality 100", "--quality: found '100', expected an integer from 1 to 95"),
    ("pack_shards", "{tmp} {tmp}/o --per-shard 0", "--per-shard: found '0', expected a positive integer"),
    ("pack_shards", "{tmp} {tmp}/o --short-side x", "--short-side: found 'x', expected a positive integer"),
    ("pack_shards", "{tmp} {tmp}/o --workers 0", "--workers: found '0', expected an integer from 1 to 512"),
    ("generate_imagenet_c", "{tmp} {tmp}/o --workers 0", "--workers: found '0', expected an integer from 1 to 512"),
    ("infer", "{config} x {tmp} --out {tmp}/o --max-depth 0", "--max-depth: found '0', expected a positive number"),
    ("infer", "{config} x {tmp} --out {tmp}/o --max-depth inf", "--max-depth: found 'inf', expected a positive"),
    ("train", "{config} --local-rank x", "found 'x', expected a non-negative integer"),
    # devices
    ("evaluate", "--backbone x --device cuda", "--device: device 'cuda': this machine has none"),
    ("evaluate", "--backbone x --device gpu0", "--device: unknown device 'gpu0'; choose from: cpu"),
    ("infer", "{config} x {tmp} --out {tmp}/o --device cuda:7", "device 'cuda:7': this machine has none"),
    ("cache_teacher", "{config} --device CPU", "unknown device 'CPU'; choose from: cpu"),
    # choices and names
    ("train", "{config} --launcher torchrun", "--launcher: invalid choice: 'torchrun'"),
    ("train", "{config} --wo x", "error: unknown argument --wo (see"),
    ("train", "{config} --workdir x", "error: unknown argument --workdir; nearest: --work-dir (see"),
    ("evaluate", "--batch_size=8", "error: unknown argument --batch_size; nearest: --batch-size (see"),
    ("train", "{config} --resume {tmp}/nowhere.pth", "no such checkpoint: '{tmp}/nowhere.pth'"),
    ("train", "{config} --resume {tmp}", "'{tmp}' is a folder; name a checkpoint in it"),
    ("train", "{config} --check --resume {tmp}/nowhere.pth", "no such checkpoint: '{tmp}/nowhere.pth'"),
    ("train", "", "the following arguments are required: config"),
    ("evaluate", "--backbone {teacher} --arch nope --protocols knn", "--arch nope: no model of ours or timm's"),
    ("evaluate", "--backbone random: --protocols knn", "no model of ours or timm's has the name ''; nearest: none"),
    ("evaluate", "--backbone random:test_vit.x --protocols knn", "timm does not know this tag; it has: test_vit.r160"),
    (
        "evaluate",
        "--backbone {teacher} --arch test_vit.x --protocols knn",
        "--arch test_vit.x: timm does not know this",
    ),
    ("evaluate", "--backbone {teacher} --arch resnet18 --protocols knn", "does not fit the model it is meant for"),
    (
        "evaluate",
        "--backbone random:tiny --img-size 57 --protocols knn",
        "img_size=57 is not a multiple of patch_size=14",
    ),
    ("evaluate", "--backbone x --protocols knn --cfg-options protocol=None", "not an evaluation config"),
    ("evaluate", "--backbone x --protocols knn --cfg-options protocol.pipeline=[]", "expected a list of transforms"),
    (
        "evaluate",
        "--backbone x --protocols knn --cfg-options protocol.pipeline.1.interpolation=x",
        "protocol.pipeline[1]: 'x' is not a valid InterpolationMode",
    ),
    ("evaluate", "--backbone x --protocols knn --cfg-options protocol.mean=[123,116,103]", "3 numbers from 0 to 1"),
    ("infer", "{knn} x {tmp}/images --out {tmp}/o", "model: missing; write it"),
    ("pack_shards", "'' {tmp}/o", "found an empty name, expected a folder"),
    ("convert_checkpoint", "{teacher} {tmp}/folder.pth --to timm", "folder.pth: is a folder; name a file"),
    ("convert_checkpoint", "{teacher} {tmp}/o.pth --to x", "--to: invalid choice: 'x'"),
    ("generate_imagenet_c", "{tmp} {tmp}/o --corruptions x", "--corruptions: invalid choice: 'x'"),
    # values of --cfg-options
    ("train", "{config} --cfg-options a", "found 'a', expected KEY=VALUE"),
    ("train", "{config} --cfg-options lr=fast", "'lr' is neither a key of the runner nor a variable"),
    ("train", "{config} --cfg-options model.student.depth=", "model.student.depth has no value"),
    ("train", "{config} --cfg-options =5", "a part of the key is empty"),
    ("train", "{config} --cfg-options model={{'depth':[1,2]}}", "model: found a dict; set its keys one by one"),
    ("train", "{config} --cfg-options train_cfg.max_iters=-5", "max_iters: found -5, expected a positive integer"),
    (
        "train",
        "{config} --cfg-options train_cfg.max_iters=1e3",
        "found 1000.0, expected a positive integer; write 1000",
    ),
    ("train", "{config} --cfg-options train_dataloader.batch_size=(8,)", "batch_size: found (8,), expected a positive"),
    (
        "train",
        "{config} --cfg-options train_dataloader.batch_size=8,8",
        "batch_size: found [8, 8], expected a positive",
    ),
    ("train", "{config} --cfg-options train_dataloader.batch_size=[8,9", "brackets do not match"),
    ("train", "{config} --cfg-options resume=maybe", "resume: found 'maybe', expected True or False"),
    ("train", "{config} --cfg-options model=None", "model: missing"),
    ("train", "{config} --cfg-options default_hooks.checkpoint=5", "default_hooks.checkpoint is a dict with the keys"),
    ("train", "{config} --cfg-options load_from={tmp}/file --check", "{tmp}/file"),
    ("test", "{config} x --cfg-options test_dataloader.batch_size=0", "batch_size: found 0, expected a positive"),
    (
        "evaluate",
        "--backbone x --protocols knn --cfg-options protocol.ks=0",
        "ks: found 0, expected a list of positive",
    ),
]

ENVIRONMENTS: list[tuple[str, dict[str, str], str]] = [
    ("pytorch", {}, "RANK is not set"),
    ("slurm", {}, "SLURM_PROCID is not set"),
    ("mpi", {}, "OMPI_COMM_WORLD_LOCAL_RANK is not set"),
    ("pytorch", {"RANK": "x"}, "found RANK='x', expected a non-negative integer"),
    ("pytorch", {"WORLD_SIZE": ""}, "found WORLD_SIZE='', expected a non-negative integer"),
    ("pytorch", {"WORLD_SIZE": "2.0"}, "found WORLD_SIZE='2.0', expected a non-negative integer"),
    ("pytorch", {"RANK": "3"}, "RANK is 3 and WORLD_SIZE is 2"),
    ("pytorch", {"RANK": "-1"}, "found RANK='-1', expected a non-negative integer"),
    ("pytorch", {"MASTER_PORT": "http"}, "found MASTER_PORT='http', expected a non-negative integer"),
    ("none", {"WORLD_SIZE": "garbage", "RANK": "?"}, "batch_size: found 0"),
    ("", {}, "--launcher slurm: SLURM_PROCID is not set"),  # as the config says
]

# Arguments that only the constructor refuses: the message has the key and quotes the constructor.
BUILT: dict[str, tuple[dict[str, Any], str]] = {
    "optimizer": (
        {"optim_wrapper.optimizer": {"type": "Adadelta", "lr": 1.0, "rho": 5.0, "weight_decay": 0.0}},
        r"optim_wrapper(\.optimizer)?: .*rho",
    ),
    "schedule": (
        {"param_scheduler": {"type": "ReduceOnPlateauLR", "monitor": "loss", "rule": "odd"}},
        r"param_scheduler: .*odd",
    ),
    "sampler": (
        {"train_dataloader.sampler": {"type": "Refusing"}},
        r"train_dataloader\.sampler: half of 0",
    ),
    "loader": ({"train_dataloader.worker_init_fn": {"type": "refusing_init"}}, r"train_dataloader: .*worker_init_fn"),
    "transform": (
        {"train_dataloader.dataset.pipeline.2": {"type": "RefusingTransform"}},
        r"train_dataloader\.dataset\.pipeline\[2\]: no attribute",
    ),
    "hook": ({"custom_hooks": [{"type": "RefusingHook"}]}, r"custom_hooks\[0\]: "),
    "metric": ({"val_evaluator": {"type": "RefusingMetric"}}, r"val_evaluator: "),
    "loop": ({"train_cfg": {"type": "RefusingLoop", "max_iters": 1}}, r"train_cfg: the loop refuses"),
    "model": ({"model.student.arch": "no-such"}, r"model\.student: arch='no-such'"),
}

REFUSING = """
import sys
from mmengine.hooks import Hook
from mmengine.evaluator import BaseMetric
from mmengine.runner import IterBasedTrainLoop
from proteus.registry import DATA_SAMPLERS, FUNCTIONS, HOOKS, LOOPS, METRICS, TRANSFORMS

@DATA_SAMPLERS.register_module(force=True)
class Refusing:
    def __init__(self, dataset, seed=None):
        assert not len(dataset), "half of 0"

@TRANSFORMS.register_module(force=True)
class RefusingTransform:
    def __init__(self):
        raise AttributeError("no attribute")

@HOOKS.register_module(force=True)
class RefusingHook(Hook):
    def __init__(self):
        1 / 0

@METRICS.register_module(force=True)
class RefusingMetric(BaseMetric):
    def __init__(self):
        raise KeyError("name")

@LOOPS.register_module(force=True)
class RefusingLoop(IterBasedTrainLoop):
    def __init__(self, runner, dataloader, max_iters):
        raise NotImplementedError("the loop refuses")

@HOOKS.register_module(force=True)
class FaultyHook(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        raise TypeError("a fault of the run")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    write_config(folder, write_images(folder / "images"), write_teacher(folder / "teacher.safetensors"))
    (folder / "file").write_text("x")
    (folder / "folder.pth").mkdir()
    (folder / "refusing.py").write_text(REFUSING)
    return folder


@pytest.fixture
def call(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Run a tool in this process; return its status and error output."""

    def call(name: str, *arguments: str) -> tuple[int, str]:
        spec = importlib.util.spec_from_file_location(f"tool_{name.replace('/', '_')}", ROOT / f"tools/{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        spec.loader.exec_module(module)
        with pytest.raises(SystemExit) as exit_:
            run(module.main, module.parse_args())
        return exit_.value.code, "".join(line for line in capfd.readouterr().err.splitlines(True) if "arn" not in line)

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(place)
    return call


@pytest.mark.parametrize(("tool", "arguments", "words"), OPTIONS, ids=[f"{name} {text}" for name, text, _ in OPTIONS])
def test_a_wrong_option_is_one_line(tool: str, arguments: str, words: str, place: Path, call: Call) -> None:
    names = {
        "tmp": place,
        "config": place / "small.py",
        "teacher": place / "teacher.safetensors",
        "knn": ROOT / "configs/knn/imagenet.py",
        "long": "x" * 300,
    }
    before = sorted(place.rglob("*"))
    parts = [part.format(**names) if part != "''" else "" for part in arguments.split()]
    status, text = call(tool, *parts)
    assert status == 2
    assert text.startswith("error: ")
    assert text.count("\n") == 1, text
    assert words.format(**names) in text
    assert [path for path in sorted(place.rglob("*")) if path not in before and "work_dirs" not in str(path)] == []


@pytest.mark.parametrize(("launcher", "variables", "words"), ENVIRONMENTS)
def test_a_wrong_environment_is_one_line(
    launcher: str, variables: dict[str, str], words: str, place: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**usual, **variables}.items() if variables else ():
        monkeypatch.setenv(name, value)
    extra = ["--cfg-options", "train_dataloader.batch_size=0"] if launcher == "none" else []
    chosen = ["--launcher", launcher] if launcher else ["--cfg-options", "launcher=slurm"]
    status, text = call("train", "small.py", "--work-dir", str(place / "run"), *chosen, *extra)
    assert status == 2
    assert text.count("\n") == 1, text
    assert words in text


@pytest.mark.parametrize("case", BUILT)
def test_a_constructor_error_names_the_key(
    case: str, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(place))
    overrides, words = BUILT[case]
    path = tmp_path / "own.py"
    lines = [f"_base_ = '{place / 'small.py'}'", "custom_imports = dict(imports=['refusing'])"]
    path.write_text("\n".join(lines))
    cfg = load_config(path)
    for key, value in overrides.items():
        put(cfg, key, value)
    cfg.work_dir = str(tmp_path / "run")
    with pytest.raises(ConfigError, match=words) as caught:
        train(cfg)
    assert "\n" not in str(caught.value)


def test_an_error_during_the_run_is_not_a_config_error(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(place))
    cfg = load_config(place / "small.py", {"custom_imports.imports": ["refusing"]})
    cfg.custom_hooks = [{"type": "FaultyHook"}]
    cfg.work_dir = str(tmp_path / "run")
    with pytest.raises(TypeError, match="a fault of the run"):
        train(cfg)


def put(cfg: Any, key: str, value: Any) -> None:
    *parts, last = key.split(".")
    node = cfg
    for part in parts:
        node = node[int(part) if part.isdecimal() else part]
    if isinstance(value, dict):
        value = {name: item for name, item in value.items() if name != "_delete_"}
    node[int(last) if last.isdecimal() else last] = value
