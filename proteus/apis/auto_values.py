"""Choose the values that a distillation run leaves open; docs/distil.md#automatic-values has the formulas."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from proteus.apis.launch import check_gpus
from proteus.apis.model_cost import GIB, StepCost
from proteus.apis.resources import check_device
from proteus.structures import UserError
from proteus.utils.precision import cpu_has_bfloat16, has_bfloat16

Init = Literal["sliced", "given", "random"]

# The paper: 300 epochs of ImageNet-1K in batches of 1024.
PAPER_EPOCHS = 300
PAPER_ITERS = 375_300
PAPER_BATCH = 1024
# The recipe: lr = 5e-4 x batch / 512 from random weights.
LR_PER_IMAGE = 5e-4 / 512
# From sliced weights: a tenth, so that training keeps what is there, and no less than the quickstart's.
SLICED_LR_FRACTION = 0.1
MIN_SLICED_LR = 1e-5
# With Muon, for 600 iterations and more. The first steps change every weight by the rate, and shorter runs from sliced
# weights have no time to repair it.
MUON_LR: Mapping[Init, float] = {"sliced": 2e-4, "given": 2e-4, "random": 2e-3}
# Fewer iterations than these train nothing, however few images there are.
MIN_GPU_ITERS = 10_000
CPU_ITERS = 600
CPU_BATCH = 16
# Views of a run from which on the paper's recipe pays; less is minutes of training.
LONG_FROM = 1_000_000
# Smaller batches leave a GPU idle; the sampler repeats the images of smaller sets.
_LEAST_BATCH = 16
MAX_SIZE = 224
CPU_SIZE = 112
MAX_HELD_OUT = 2_000
# Share of the free memory that a step may fill by the estimate, which does not count buffers of kernels.
MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class Auto:
    """A resolved value.

    Attributes:
        value: The value, as it stands in the config.
        why: Where it comes from, in a few words.
    """

    value: Any
    why: str


def format_table(table: Mapping[str, Auto]) -> str:
    """Return resolved values by name, one ``name  value  why`` per line."""
    rows = [
        (name, f"{entry.value:g}" if isinstance(entry.value, float) else str(entry.value), entry.why)
        for name, entry in table.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    return "\n".join(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {why}".rstrip() for name, value, why in rows)


@dataclass(frozen=True)
class Machine:
    """What a run has at its disposal.

    Attributes:
        device: ``cuda`` or ``cpu``.
        processes: Number of processes, one per GPU.
        cores: CPU cores of all processes together.
        free_memory: Free bytes of one GPU; 0 on a CPU.
        bfloat16: Whether training is faster in bfloat16.
        teacher_bfloat16: Whether a frozen teacher is faster in bfloat16, though training is not: some CPUs.
    """

    device: str
    processes: int
    cores: int
    free_memory: int
    bfloat16: bool
    teacher_bfloat16: bool = False

    @property
    def has_gpu(self) -> bool:
        """Whether the run is on GPUs."""
        return self.device != "cpu"


def this_machine(device: str | None, gpus: int | None) -> Machine:
    """Describe this machine for a run.

    Args:
        device: ``cpu`` or ``cuda``; None for a GPU if there is one.
        gpus: Number of GPUs, one process each; 0 for the CPU. With ``device="cpu"`` the number of processes.

    Raises:
        UserError: The machine has no GPU, or fewer; or a certain one is named.
    """
    if device not in (None, "cpu", "cuda"):
        raise UserError(f"device {device!r}: write 'cpu' or 'cuda', and choose GPUs with CUDA_VISIBLE_DEVICES")
    if device == "cuda":
        check_device(device)
    on_cpu = device == "cpu" or gpus == 0
    if gpus is not None and not on_cpu:
        try:
            check_gpus(gpus)
        except UserError as error:
            raise UserError(f"gpus: {error}") from None
    on_gpu = not on_cpu and torch.cuda.is_available()
    return Machine(
        device="cuda" if on_gpu else "cpu",
        processes=gpus or 1,
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        free_memory=torch.cuda.mem_get_info()[0] if on_gpu else 0,
        bfloat16=on_gpu and has_bfloat16("cuda"),
        teacher_bfloat16=not on_gpu and cpu_has_bfloat16(),
    )


def choose_img_size(machine: Machine, teacher_size: int, patch_size: int | None) -> Auto:
    """Choose the side of the images: at most the teacher's and 224 px (112 px on a CPU), in whole patches."""
    most = MAX_SIZE if machine.has_gpu else CPU_SIZE
    size = min(teacher_size, most)
    patch = patch_size or 1
    size = max(size // patch, 1) * patch
    if size == most:
        why = "the paper's" if machine.has_gpu else "small, to be fast on a CPU"
    else:
        why = "the teacher's" if size == teacher_size else f"whole patches, at most {min(teacher_size, most)}"
    return Auto(size, why)


def choose_batch_size(machine: Machine, cost: StepCost | None, images: int, low_precision: bool) -> Auto:
    """Choose the images of a batch per process: a power of two that fits into memory.

    On GPUs together at most the paper's 1024, and at most an eighth of the images.

    Args:
        machine: The machine.
        cost: Estimate of the memory of a step; None on a CPU.
        images: Training images.
        low_precision: Whether the forward pass is in bfloat16.

    Raises:
        UserError: The memory is too small for the smallest batch.
    """
    if cost is None or not machine.has_gpu:
        return Auto(CPU_BATCH, "small, to be fast on a CPU")
    budget = machine.free_memory * MEMORY_SHARE
    fitting = _power_of_two(_largest_batch(cost, budget, low_precision))
    if fitting < 2:
        raise UserError(
            f"batch size: two images need about {cost.memory(2, low_precision) / GIB:.1f} GiB, and the GPU has "
            f"{machine.free_memory / GIB:.1f} GiB free; take a smaller student or --img-size, or free the GPU"
        )
    limit = _power_of_two(max(PAPER_BATCH // machine.processes, 2))
    eighth = images // (8 * machine.processes)
    enough = _power_of_two(max(eighth, _LEAST_BATCH))
    batch = min(fitting, limit, enough)
    if batch == limit:
        why = f"the paper's {PAPER_BATCH}" + (f" on {machine.processes} GPUs" if machine.processes > 1 else "")
    elif batch == enough:
        why = f"an eighth of {images:,} images" if eighth >= _LEAST_BATCH else f"the minimum, for {images:,} images"
    else:
        why = f"largest that fits in {machine.free_memory / GIB:.0f} GiB"
    memory = cost.memory(batch, low_precision) / GIB
    return Auto(batch, f"{why}; about {memory:.1f} GiB")


def _largest_batch(cost: StepCost, budget: float, low_precision: bool) -> int:
    fixed = cost.memory(0, low_precision)
    per_image = cost.memory(1, low_precision) - fixed
    return max(int((budget - fixed) // per_image), 0)


def _power_of_two(number: int) -> int:
    """Return the largest power of two up to a number; 0 below 1."""
    return 1 << (number.bit_length() - 1) if number > 0 else 0


def choose_iters(
    machine: Machine,
    images: int,
    total_batch: int,
    epochs: float | None = None,
    iters: int | None = None,
    hours: float | None = None,
    seconds_per_step: float | None = None,
) -> Auto:
    """Choose the number of iterations: what was asked for, else by the number of images.

    On GPUs the paper's 300 epochs, but at least 10,000 and at most 375,300 iterations; on a CPU 600, which takes
    minutes.

    Args:
        machine: The machine.
        images: Training images.
        total_batch: Images of a step, of all processes together.
        epochs: Passes over the images.
        iters: Iterations.
        hours: Budget; needs ``seconds_per_step``.
        seconds_per_step: Measured time of a step.

    Raises:
        UserError: More than one of ``epochs``, ``iters`` and ``hours`` is given, or one is not positive.
    """
    for name, value in (("epochs", epochs), ("iters", iters), ("hours", hours)):
        if value is not None and value <= 0:
            raise UserError(f"--{name}: found {value!r}, expected a positive number")
    given = [f"--{name}" for name, value in (("epochs", epochs), ("iters", iters), ("hours", hours)) if value]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} are all lengths of the run; give one")
    if iters:
        return Auto(iters, "--iters")
    per_epoch = images / total_batch
    if epochs:
        return Auto(max(round(epochs * per_epoch), 1), f"--epochs {epochs:g}, {per_epoch:.1f} iterations each")
    if hours:
        assert seconds_per_step is not None
        # A tenth is for reading the first images, validation and checkpoints.
        count = max(int(hours * 3600 * 0.9 / seconds_per_step), 1)
        return Auto(count, f"--hours {hours:g}, {seconds_per_step:.2g} s per iteration measured")
    if not machine.has_gpu:
        return Auto(CPU_ITERS, "minutes on a CPU; more with --iters, --epochs or --hours")
    wanted = round(PAPER_EPOCHS * per_epoch)
    if wanted < MIN_GPU_ITERS:
        return Auto(MIN_GPU_ITERS, f"the minimum, for a small data set ({MIN_GPU_ITERS / per_epoch:,.0f} epochs)")
    if wanted > PAPER_ITERS:
        return Auto(PAPER_ITERS, f"the paper's ({PAPER_ITERS / per_epoch:.1f} epochs)")
    return Auto(wanted, f"the paper's {PAPER_EPOCHS} epochs of {images:,} images")


def choose_optimizer(init: Init, hidden_states: bool, short: bool) -> Auto | None:
    """Choose Muon for short runs on hidden states or from random weights; else None.

    Measured from random weights: a ViT on hidden states, and a CNN on tokens, in batches of 16 (``docs/study.md``).

    Args:
        init: First weights of the student.
        hidden_states: Whether the teacher's hidden states are targets.
        short: Whether the run has too few views for the recipe.
    """
    if hidden_states:
        return Auto("Muon", "for hidden states as targets")
    if short and init == "random":
        return Auto("Muon", "a short run from random weights")
    return None


def choose_lr(init: Init, total_batch: int, muon_iters: int | None = None) -> Auto:
    """Choose the peak learning rate: 5e-4 x batch / 512 from random weights; a tenth of it from sliced or given ones.

    Args:
        init: First weights of the student.
        total_batch: Images of a step, of all processes together.
        muon_iters: Iterations of a run with Muon: then 2e-3 from random weights; 2e-4 from others, or
            proportionally less for less than 600. None with AdamW.
    """
    if muon_iters is not None:
        share = min(muon_iters / CPU_ITERS, 1) if init != "random" else 1
        why = f"for Muon from {init} weights" + ("" if share == 1 else f", and {muon_iters} iterations")
        return Auto(_rounded(MUON_LR[init] * share), why)
    scaled = LR_PER_IMAGE * total_batch
    if init == "random":
        return Auto(_rounded(scaled), "5e-4 x batch / 512, the recipe's")
    low = SLICED_LR_FRACTION * scaled
    if low < MIN_SLICED_LR:
        return Auto(MIN_SLICED_LR, f"low, to keep the {init} weights")
    return Auto(_rounded(low), f"5e-5 x batch / 512, to keep the {init} weights")


def choose_sliced_views(machine: Machine) -> int:
    """Choose the views that a sliced start is fitted on: more overfit less, and take minutes on a CPU."""
    return 2048 if machine.has_gpu else 1024


def choose_workers(machine: Machine, load: float | None = None) -> Auto:
    """Choose the number of data-loading processes per training process.

    Args:
        machine: The machine; on a CPU the workers share its cores with the training.
        load: Measured seconds that one core takes to load a batch, over the seconds of a training step.
    """
    share = machine.cores // machine.processes
    if machine.has_gpu:
        most = max(min(share - 1, 16 if load is not None else 10), 1)
        why = f"{machine.cores} cores" + (f" for {machine.processes} processes" if machine.processes > 1 else "")
    else:
        most, why = max(min(share // 4, 4), 1), f"a quarter of {machine.cores} cores, which also train"
    if load is not None and int(load * 1.25) + 1 < most:
        return Auto(int(load * 1.25) + 1, f"loading takes {load:.2g} times a step on one core (measured)")
    return Auto(most, why)


def choose_precision(machine: Machine) -> Auto:
    """Choose the precision of the forward pass; bfloat16 is slower than float32 on most CPUs."""
    if machine.bfloat16:
        return Auto("bfloat16", "the GPU has it")
    return Auto("float32", "the GPU has no bfloat16" if machine.has_gpu else "fastest on most CPUs")


def choose_teacher_precision(machine: Machine) -> Auto | None:
    """Choose the precision of the teacher on a CPU; None where it is that of the forward pass."""
    return Auto("bfloat16", "the CPU has instructions for it") if machine.teacher_bfloat16 else None


def choose_augmentation(views: int, hidden_states: bool) -> Auto:
    """Choose the augmentation: ``strong``, ``recipe`` (with erasing as well) or ``mild``.

    Args:
        views: Views that the run sees.
        hidden_states: Whether the teacher's hidden states are targets.
    """
    if hidden_states:
        return Auto("strong", "as measured for hidden states: crops from 0.08, RandAugment 9")
    if views >= LONG_FROM:
        return Auto("recipe", f"{views:,} views: crops from 0.08, RandAugment 9, erasing")
    return Auto("mild", f"{views:,} views, too few to learn from small crops")


def choose_held_out(images: int) -> float:
    """Return the share of images to hold out: a twentieth, at least 40 (a fifth of small sets), at most 2,000."""
    wanted = min(max(images / 20, 40), MAX_HELD_OUT, images / 5)
    return float(f"{wanted / images:.2g}")


def choose_val_interval(iters: int) -> int:
    """Return the iterations between validations: a tenth of the run, between 200 and 12,500."""
    return min(max(iters // 10, 200), 12_500, iters)


def choose_checkpoint_interval(iters: int) -> int:
    """Return the iterations between checkpoints: a twentieth of the run, between 300 and 2,500."""
    return min(max(iters // 20, 300), 2_500, iters)


def choose_log_interval(iters: int) -> int:
    """Return the iterations between log lines: twelve lines at least, every 50 iterations at most."""
    return min(max(iters // 12, 1), 50)


def choose_warmup(iters: int) -> int:
    """Return the iterations of the warm-up: the recipe's 5 of 300 epochs, at least 100, at most a tenth of the run."""
    warmup = min(max(iters // 60, 100), iters // 10)
    return warmup if warmup > 1 else 0  # MMEngine's schedulers never leave their first value in one step


def _rounded(number: float) -> float:
    return float(f"{number:.3g}")
