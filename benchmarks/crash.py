#!/usr/bin/env python
"""Test the tools under kills, full disks and races. Prints a table; the exit status is 1 if a check failed.

    PYTHONPATH=.:tests python benchmarks/crash.py --kills 25 --races 5
    PYTHONPATH=.:tests python benchmarks/crash.py --only full-disk        (as root, since it mounts small tmpfs)

kill     a training run with max_keep_ckpts=1 is killed (SIGKILL) at a random moment, then resumed; its last checkpoint
         must equal that of an uninterrupted run bit for bit. "within a save": while a temporary checkpoint file exists.
         "SIGTERM": the run must save a checkpoint and exit with 143.
full disk  a tool writes to a tmpfs that is too small: it must print one line with a file's name, exit with 2 and leave
         no damaged file under its final name; with enough room it must then succeed.
race     two processes of a tool start at the same time in one folder: each must succeed or report the other, at least
         one must succeed, and the output must equal that of a single process.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from cache_runs import write_fixed
from PIL import Image
from runs import options, write_config, write_images, write_teacher

from proteus.engine.runner.resume import find_damage

ROOT = Path(__file__).parents[1]
# A process that has imported the package once; each tool runs in a fork of it.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["proteus.apis", "tensorboard", "torch.utils.tensorboard"])
TRAIN = {
    "train_cfg.max_iters": 30,
    "train_cfg.val_interval": 1000,
    "default_hooks.checkpoint.interval": 2,
    "default_hooks.checkpoint.max_keep_ckpts": 1,
    "default_hooks.online_eval": None,
    "train_dataloader.num_workers": 1,
}
COUNTS: dict[str, list[str]] = defaultdict(list)


class Done(NamedTuple):
    """How a tool ended, and what it printed."""

    status: int
    output: str


class Tool:
    """A tool that runs in its own process."""

    def __init__(self, name: str, *arguments: Any) -> None:
        self.output = Path(tempfile.mkstemp(prefix="crash-", suffix=".log")[1])
        command = [str(ROOT / "tools" / name), *map(str, arguments)]
        self.process = SERVER.Process(target=_be_script, args=(command, self.output))
        self.process.start()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to this process alone."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def end(self) -> Done:
        """Wait for the end."""
        self.process.join(300)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        text = self.output.read_text(errors="replace")
        self.output.unlink()
        return Done(self.process.exitcode if self.process.exitcode is not None else -1, text)


def _be_script(command: list[str], output: Path) -> None:
    for descriptor in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), descriptor)
    os.chdir(ROOT)
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    torch.set_num_threads(1)
    sys.path.insert(0, str(Path(command[0]).parent))
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")


class Place:
    """Images, a teacher, configs and labelled folders for all tools, and their command lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        images = write_images(folder / "images", 48)
        self.config = write_config(folder, images, write_teacher(folder / "teacher.safetensors"))
        write_fixed(self.config, folder / "fixed.py", images, folder / "cache")
        generator = np.random.default_rng(0)
        for part, label, number in np.ndindex(2, 3, 200):
            path = folder / "labelled" / ("train", "test")[part] / f"c{label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.integers(0, 80 * (label + 1), (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)

    def train(self, out: Path, *more: Any) -> Tool:
        """Start a training run that saves often and keeps one checkpoint."""
        return Tool("train.py", self.config, "--work-dir", out, *more, *options(TRAIN))

    def evaluate(self, out: Path) -> Tool:
        """Start a k-NN evaluation that keeps its features."""
        fast = ["--img-size", 32, "--workers", 0, "--device", "cpu", "--protocols", "knn"]
        sets = ["--sets", self.folder / "labelled", "--data-root", self.folder]
        return Tool("evaluate.py", "--backbone", "random:test_vit", "--out", out, *sets, *fast)

    def pack(self, out: Path) -> Tool:
        """Shards of the images."""
        return Tool("pack_shards.py", self.folder / "images", out, "--per-shard", 8)

    def cache(self, out: Path) -> Tool:
        """The teacher's tokens."""
        return Tool("cache_teacher.py", self.folder / "fixed.py", "--out", out, "--shard-mb", 0.02, "--workers", 0)

    def convert(self, out: Path) -> Tool:
        """The teacher under dinov2's names."""
        out.mkdir(parents=True, exist_ok=True)
        return Tool("convert_checkpoint.py", self.folder / "teacher.safetensors", out / "dinov2.pth", "--to", "dinov2")


def count(row: str, ok: bool, what: str = "", done: Done | None = None) -> None:
    """Note one trial."""
    COUNTS[row].append("" if ok else what or "failed")
    if not ok:
        tail = "" if done is None else f" [status {done.status}] ...{done.output[-600:]}"
        print(f"FAILED {row}: {what}{tail}", flush=True)


def last_checkpoint(out: Path) -> dict[str, Any]:
    """What a resumed run must share with the unbroken one."""
    found = torch.load(out / f"iter_{TRAIN['train_cfg.max_iters']}.pth", weights_only=False)
    return {part: found[part] for part in ("state_dict", "optimizer", "param_schedulers")}


def same(found: Any, wanted: Any) -> bool:
    """Whether two nested containers are equal, bit for bit."""
    if isinstance(wanted, torch.Tensor):
        return torch.equal(found, wanted)
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(same(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, (list, tuple)):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return bool(found == wanted)


def kills(place: Place, trials: int) -> None:
    """Kill trainings at random moments and within saves, and resume them."""
    whole = place.folder / "whole"
    start = time.monotonic()
    done = place.train(whole).end()
    assert done.status == 0, done.output
    seconds, wanted = time.monotonic() - start, last_checkpoint(whole)
    for row in ("kill: any moment", "kill: within a save", "SIGTERM"):
        for trial in range(trials):
            out = place.folder / f"{row.split()[-1]}{trial}"
            training = place.train(out)
            until = time.monotonic() + random.uniform(0.1, 0.9) * seconds
            saves = random.randint(0, 12)
            while training.process.is_alive() and (row == "kill: within a save" or time.monotonic() < until):
                # From the random save on, at the first sight of a file that is being written.
                if row == "kill: within a save" and any(out.glob(".iter_*.tmp")):
                    names = [path.name for path in out.glob(".iter_*.tmp")]
                    if names and int(names[0].split("_")[1].split(".")[0]) >= 2 * saves:
                        break
                time.sleep(0.0002 if row == "kill: within a save" else 0.01)
            alive = training.process.is_alive()
            if alive:
                training.kill(signal.SIGTERM if row == "SIGTERM" else signal.SIGKILL)
            ended = training.end()
            if row == "SIGTERM" and "Iter(train)" in ended.output:
                expected = ended.status in (143, 0) and "Traceback" not in ended.output
                count(f"{row}: status 143, one line", expected, "did not stop by itself", ended)
            faults = [find_damage(path) for path in out.glob("iter_*.pth")]
            count(f"{row}: every checkpoint whole", not any(faults), str(faults))
            done = place.train(out, "--resume").end()
            resumed = done.status == 0 and same(last_checkpoint(out), wanted)
            count(f"{row}: resumed, bit for bit", resumed, "differs from the unbroken run", done)
            left = [path.name for path in out.iterdir() if ".pth" in path.name]
            count(f"{row}: one checkpoint left", left == [f"iter_{TRAIN['train_cfg.max_iters']}.pth"], str(left))
            shutil.rmtree(out)


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """Mount a tmpfs of ``size`` bytes."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def full_disks(place: Place) -> None:
    """Give each tool too little room, then enough."""
    if os.geteuid() != 0:
        print("full disk: skipped, since only root can mount a small disk")
        return
    tools: dict[str, Callable[[Path], Tool]] = {
        name: getattr(place, name) for name in ("train", "evaluate", "pack", "cache", "convert")
    }
    for name, start in tools.items():
        alone = place.folder / f"room-{name}"
        done = start(alone).end()
        assert done.status == 0, done.output
        needed = sum(-(-path.stat().st_size // 4096) * 4096 for path in alone.rglob("*") if path.is_file())
        for part in (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
            out, row = place.folder / f"full-{name}", f"full disk: {name}"
            with small_disk(out, max(4096 * 2, int(needed * part) // 4096 * 4096)):
                done = start(out / "run").end()
                one_line = done.status == 2 and re.search("no space left|make room", done.output)
                is_clean = (one_line or done.status == 0) and "Traceback" not in done.output
                count(f"{row}, one line", is_clean, f"with {part:.0%} of the room", done)
                faults = [find_damage(path) for path in out.rglob("*.pth") if not path.name.startswith(".")]
                count(f"{row}, nothing damaged", not any(faults), f"with {part:.0%}: {faults}")
                subprocess.run(["mount", "-o", f"remount,size={needed * 4 + 2**22}", str(out)], check=True)
                again = place.train(out / "run", "--resume") if name == "train" else start(out / "run")
                done = again.end()
                count(f"{row}, with room again", done.status == 0, f"after {part:.0%} of the room", done)


def races(place: Place, trials: int) -> None:
    """Start each tool twice at once on one folder."""
    for name in ("train", "evaluate", "pack", "cache"):
        start: Callable[[Path], Tool] = getattr(place, name)
        alone = place.folder / f"alone-{name}"
        done = start(alone).end()
        assert done.status == 0, done.output
        wanted = digest(name, alone)
        for trial in range(trials):
            out = place.folder / f"race-{name}{trial}"
            first = start(out)
            time.sleep(random.choice([0, 0.05, 0.3, 1.0]))
            second = start(out)
            ended = [first.end(), second.end()]
            refused = [done for done in ended if done.status == 2 and "in use by" in done.output]
            well = [done for done in ended if done.status == 0]
            worst = next((done for done in ended if done not in refused and done not in well), ended[0])
            count(f"race: {name}, one ends well", bool(well), "neither", worst)
            count(f"race: {name}, the other is refused or ends well", len(refused) + len(well) == 2, "neither", worst)
            count(f"race: {name}, result of one alone", digest(name, out) == wanted, "differs")
            shutil.rmtree(out)


def digest(name: str, out: Path) -> Any:
    """What a tool's result must be equal in."""
    if name == "train":
        checkpoint = last_checkpoint(out)["state_dict"]
        return {key: hashlib.sha256(value.numpy().tobytes()).hexdigest() for key, value in checkpoint.items()}
    if name == "evaluate":
        arrays = {path.parent.name: path.read_bytes() for path in sorted(out.rglob("features.npy"))}
        return arrays, json.loads((out / "report.json").read_text())["protocols"]
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> int:
    """Run what is asked for, and print the counts."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="trials of each kind of kill")
    parser.add_argument("--races", type=int, default=4, help="trials of each race")
    parser.add_argument("--only", choices=["kill", "full-disk", "race"], help="run only this part")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="crash-") as folder:
        place = Place(Path(folder))
        if arguments.only in (None, "kill"):
            kills(place, arguments.kills)
        if arguments.only in (None, "full-disk"):
            full_disks(place)
        if arguments.only in (None, "race"):
            races(place, arguments.races)
    print(f"\n{'what':<62}{'held':>12}")
    for row, trials in COUNTS.items():
        held = sum(not trial for trial in trials)
        print(f"{row:<62}{f'{held} of {len(trials)}':>12}")
    return 1 if any(any(trials) for trials in COUNTS.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
