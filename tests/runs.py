"""Small runs of a shipped recipe with the real tools: images and a teacher on disk, and a config that extends it."""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.connection
import os
import re
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

import numpy as np
import PIL
import torch
import torch.distributed
from PIL import Image
from safetensors.torch import save_file

from proteus.checkpoints import export_backbone
from proteus.models import ViT
from proteus.models.backbones import architecture_of, weights_of

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "configs/proteus/vit-ti_dinov2-s.py"
_PATIENCE = 300  # seconds

# Warm-up starts at the peak, so that a few steps move the weights far beyond any rounding.
CONFIG = """
_base_ = "{recipe}"

model = dict(
    teacher=dict(backbone=dict(arch="tiny", img_size=56, embed_dim=64, depth=2, num_heads=4, checkpoint="{teacher}")),
    student=dict(img_size=56, embed_dim=48, depth=2, num_heads=3),
)
train_pipeline = _base_.train_pipeline
train_pipeline[0].scale = 56
val_pipeline = _base_.val_pipeline
val_pipeline[1].scale, val_pipeline[2].crop_size = 64, 56
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    pin_memory=False,
    dataset=dict(data_root="{images}", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(data_root="{images}", pipeline=val_pipeline, indices=10),
)
test_dataloader = val_dataloader
param_scheduler = dict(epochs=10, iters_per_epoch=3, warmup_epochs=1, warmup_lr=1e-3)
train_cfg = dict(max_iters=5, val_interval=1000)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1000))
"""


def write_images(folder: Path, count: int = 24) -> Path:
    """Images of coarse random colours, JPEG and PNG, in two nested folders; the same for the same count."""
    generator = np.random.default_rng(0)
    for number in range(count):
        colours = generator.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        path = folder / ("a/b" if number % 2 else "c") / f"{number:03}.{'png' if number % 3 == 0 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colours).resize((96, 72), Image.Resampling.BICUBIC).save(path)
    return folder


def write_teacher(path: Path, embed_dim: int = 64, **vit: Any) -> Path:
    """A random ViT, by default of the size that the small config's teacher has."""
    sizes = {"arch": "tiny", "img_size": 56, "depth": 2, "num_heads": 4, **vit}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(ViT(embed_dim=embed_dim, **sizes).timm_state(), path)
    return path


def write_described(path: Path, backbone: Any, mean: Sequence[float], std: Sequence[float]) -> Path:
    """A weight file that says what architecture it is of, as exports do."""
    architecture, arguments = architecture_of(backbone)
    about = {"architecture": architecture, "arguments": arguments, "mean": list(mean), "std": list(std)}
    return export_backbone(weights_of(backbone), path, about)


def write_config(folder: Path, images: Path, teacher: Path) -> Path:
    """The paper's recipe with a small student, teacher, batch and schedule, and without workers."""
    path = folder / "small.py"
    path.write_text(CONFIG.format(recipe=RECIPE, teacher=teacher, images=images))
    return path


def options(values: Mapping[str, Any]) -> list[str]:
    """``--cfg-options`` and its arguments."""
    return ["--cfg-options", *(f"{key}={value}" for key, value in values.items())] if values else []


# A process that has imported the package once. Each tool runs in a fork of it, which saves five seconds of imports.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        *(
            f"proteus.apis.{name}"
            for name in ("cache_teacher", "dry_run", "evaluate", "infer", "quickstart", "training")
        ),
        "proteus.cli.run",
        # What mmpretrain and mmseg import; some tests hide the two themselves.
        *("einops", "ftfy", "mmcv.cnn", "mmcv.transforms", "modelindex.load_model_index", "scipy.optimize"),
        "setuptools",
        "tensorboard",
        "torch._dynamo",
        "torch.utils.cpp_extension",
        "torch.utils.tensorboard",
        "yapf.yapflib.yapf_api",
        *(f"PIL.{plugin}" for plugin in PIL._plugins),
    ]
)


def tool(
    name: str | Path, *arguments: Any, path: str | Path | None = None, ranks: int = 1
) -> subprocess.CompletedProcess[str]:
    """Run ``tools/<name>``, or ``proteus <name>``, to its end.

    Args:
        name: File in ``tools``, absolute path of a script, command of ``proteus``, or ``-m`` for a module of the
            checkout; all but a ``.sh`` run in a fork of the server.
        arguments: Command line.
        path: Folder that is put on PYTHONPATH, or several with ``os.pathsep`` between them.
        ranks: Number of processes. With more than one they get ``--launcher pytorch``, torchrun's variables and its
            store; where one of them fails, the others get SIGTERM. ``tools/dist_train.sh`` runs torchrun itself, which
            takes ten seconds of imports more.

    Returns:
        Output of all ranks, and 0 or the status of the first rank that failed.
    """
    environment = _environment(path)
    command = [str(ROOT / "tools" / name) if Path(name).suffix else str(name), *map(str, arguments)]
    if command[0].endswith(".sh"):
        return subprocess.run(
            ["bash", *command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_PATIENCE
        )
    store = None
    if ranks > 1:
        store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        command += ["--launcher", "pytorch"]
        environment |= {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
        environment |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    with TemporaryDirectory() as folder:
        output = [Path(folder, stream) for stream in ("stdout", "stderr")]
        processes = []
        for rank in range(ranks):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if ranks > 1 else {}
            processes.append(_forked(command, {**environment, **own}, output))
        status = _wait(processes)
        del store
        if status is None:
            raise subprocess.TimeoutExpired(command, _PATIENCE, *(file.read_bytes() for file in output))
        texts = [file.read_text(errors="replace") for file in output]
        return subprocess.CompletedProcess(command, status, *texts)


def start(name: str | Path, *arguments: Any, log: str | Path = os.devnull) -> Any:
    """Start a Python tool that writes its output to ``log``; returns its process without waiting for it."""
    return _forked([str(ROOT / "tools" / name), *map(str, arguments)], _environment(), [log, log])


def run_code(code: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """Run Python code as ``python -c`` does, in a fork of the server."""
    with TemporaryDirectory() as folder:
        return tool(_script(folder, code), *arguments)


@contextmanager
def talk_to(code: str, *arguments: Any) -> Iterator[tuple[Any, TextIO]]:
    """Start Python code in a fork of the server; its input and output are one stream, as of ``subprocess.Popen``.

    Yields:
        The process, and the stream. After the block the process gets time to end, and is killed if the block raised.
    """
    ours, theirs = socket.socketpair()
    with TemporaryDirectory() as folder, ours, ours.makefile("rw") as stream:
        errors = Path(folder, "stderr")
        process = _forked([str(_script(folder, code)), *map(str, arguments)], _environment(), [theirs, errors])
        theirs.close()
        try:
            yield process, stream
            process.join(_PATIENCE)
        finally:
            process.kill()
            process.join()
            print(errors.read_text() if errors.is_file() else "", file=sys.stderr)


def _script(folder: str, code: str) -> Path:
    path = Path(folder, "script.py")
    path.write_text(code)
    return path


def _environment(path: str | Path | None = None) -> dict[str, str]:
    """Return the variables of a tool that runs on one thread, without a GPU."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), *filter(None, [os.environ.get("PYTHONPATH")])])
    return environment


def _wait(processes: list[Any]) -> int | None:
    """Wait for all processes; return the first status other than 0, or None if time was up."""
    end, status, running = time.monotonic() + _PATIENCE, 0, list(processes)
    while running and time.monotonic() < end:
        multiprocessing.connection.wait([process.sentinel for process in running], end - time.monotonic())
        ended = [process for process in running if process.exitcode is not None]
        running = [process for process in running if process not in ended]
        failed = [process.exitcode for process in ended if process.exitcode]
        if failed and status == 0:
            status = failed[0]
            for process in running:
                process.terminate()
    for process in running:
        process.kill()
        process.join()
    return None if running else status


def _forked(*arguments: Any) -> Any:
    """Start a fork of the server; where the server has died (for want of memory, say), of another one."""
    for delay in (0.5, 2, None):
        process = SERVER.Process(target=_run_script, args=arguments)
        try:
            process.start()
            return process
        except (ConnectionError, EOFError):
            if delay is None:
                raise
            # A server closes its pipes some time before it has ended, and only then another one is started.
            time.sleep(delay)
    raise AssertionError


def _run_script(command: list[str], environment: dict[str, str], output: list[Any]) -> None:
    """Run a script as ``python SCRIPT ...`` does: folder, environment, path, arguments and streams."""
    gc.freeze()  # what the server imported; MMEngine's data sets collect garbage whenever one is built
    for descriptor, file in enumerate(output, start=1):
        if isinstance(file, socket.socket):
            os.dup2(file.fileno(), descriptor)
            sys.stdin = os.fdopen(file.detach())
        else:
            os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_APPEND), descriptor)
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.5  # see conftest.py
    torch.set_num_threads(1)
    # The server passes its start method on: each loader with workers would start another server, which imports torch.
    multiprocessing.set_start_method(None, force=True)
    on_path = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    if not Path(command[0]).suffix:
        module, *rest = command[1:] if command[0] == "-m" else ["proteus", *command]
        sys.path[:0] = [str(ROOT), *on_path] if command[0] == "-m" else on_path
        sys.argv = [module, *rest]
        runpy.run_module(module, run_name="__main__")
        return
    sys.path[:0] = [str(Path(command[0]).parent), *on_path]
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


def trained(name: str, *arguments: Any, path: Path | None = None, ranks: int = 1) -> str:
    """Run a tool that is meant to succeed; returns all that it wrote."""
    done = tool(name, *arguments, path=path, ranks=ranks)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """The model's weights inside a training checkpoint that a test's own run wrote."""
    return torch.load(checkpoint, weights_only=False)["state_dict"]


def log_lines(output: str) -> list[str]:
    """The lines of a run's log that report a training iteration."""
    return [line for line in output.splitlines() if re.search(r"Iter\(train\) \[", line)]
