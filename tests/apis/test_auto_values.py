"""Each value is worked out by hand in a comment or is a figure of the recipe."""

from dataclasses import replace

import pytest

from proteus.apis import auto_values as auto
from proteus.apis.auto_values import Machine
from proteus.apis.model_cost import GIB, StepCost
from proteus.structures import UserError

CPU = Machine("cpu", 1, 2, 0, False)
GPU = Machine("cuda", 1, 16, 24 * GIB, True)
# 100 MiB per image in float32, 57 MiB in bfloat16; 1 GiB of weights, gradients and moments.
COST = StepCost(0, 10_000_000, GIB // 16, 0, 0.0, 0.0, 0.0, 100 * 2**20)


def machine(**values: object) -> Machine:
    return Machine(**{**vars(GPU), **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "teacher", "patch", "size"),
    [
        (GPU, 518, 14, 224),  # the paper's
        (GPU, 256, 16, 224),
        (GPU, 196, 14, 196),  # no larger than the teacher's
        (CPU, 518, 14, 112),
        (CPU, 224, 16, 112),  # 7 patches
        (GPU, 224, 32, 224),  # 7 patches
        (CPU, 224, 32, 96),  # 3.5 patches of 32
        (CPU, 224, None, 112),
    ],
)
def test_img_size(where: Machine, teacher: int, patch: int | None, size: int) -> None:
    assert auto.choose_img_size(where, teacher, patch).value == size


@pytest.mark.parametrize(
    ("where", "images", "batch", "why"),
    [
        (CPU, 10**6, 16, "CPU"),
        # 0.8 x 24 GiB = 19.2 GiB; (19.2 - 1) GiB / 57 MiB = 327
        (GPU, 10**6, 256, "fits in 24 GiB"),
        # 18.2 GiB / 100 MiB = 186
        (machine(bfloat16=False), 10**6, 128, "fits"),
        (machine(free_memory=140 * GIB), 10**7, 1024, "the paper's 1024"),
        (machine(free_memory=140 * GIB, processes=8), 10**7, 128, "on 8 GPUs"),
        (GPU, 1000, 64, "an eighth of 1,000"),  # 125
        (GPU, 40, 16, "the minimum, for 40 images"),
        # (1.6 - 1) GiB / 57 MiB = 10
        (machine(free_memory=2 * GIB), 10**6, 8, "fits in 2 GiB"),
    ],
)
def test_batch_size(where: Machine, images: int, batch: int, why: str) -> None:
    chosen = auto.choose_batch_size(where, COST, images, low_precision=where.bfloat16)
    assert chosen.value == batch
    assert why in chosen.why


def test_the_batch_size_is_for_the_precision_of_the_run() -> None:
    assert GPU.bfloat16
    assert auto.choose_batch_size(GPU, COST, 10**6, low_precision=False).value == 128


def test_a_gpu_that_is_too_small_is_refused() -> None:
    with pytest.raises(UserError, match=r"two images need about 1\.1 GiB, and the GPU has 1\.0 GiB free"):
        auto.choose_batch_size(machine(free_memory=GIB), COST, 1000, low_precision=True)


@pytest.mark.parametrize(
    ("arguments", "iters"),
    [
        ({"where": GPU, "images": 1_281_167, "batch": 1024}, 375_300),  # 300 x 1,281,167 / 1024 = 375,342
        ({"where": GPU, "images": 13_000, "batch": 128}, 30_469),  # 300 x 101.56
        ({"where": GPU, "images": 500, "batch": 32}, 10_000),  # 300 x 15.6 = 4,688
        ({"where": GPU, "images": 14_000_000, "batch": 1024}, 375_300),
        ({"where": CPU, "images": 10**6, "batch": 16}, 600),
        ({"where": CPU, "images": 100, "batch": 16, "epochs": 3}, 19),  # 3 x 6.25 = 18.75
        ({"where": CPU, "images": 4, "batch": 16, "epochs": 1}, 1),
        ({"where": GPU, "images": 100, "batch": 16, "iters": 7}, 7),
        # 0.9 x 3600 / 0.5
        ({"where": CPU, "images": 100, "batch": 16, "hours": 1.0, "seconds_per_step": 0.5}, 6480),
    ],
)
def test_iters(arguments: dict[str, object], iters: int) -> None:
    where, images, batch = (arguments.pop(name) for name in ("where", "images", "batch"))
    assert auto.choose_iters(where, images, batch, **arguments).value == iters  # type: ignore[arg-type]


def test_two_lengths_are_refused() -> None:
    with pytest.raises(UserError, match="--epochs and --iters are all lengths of the run; give one"):
        auto.choose_iters(CPU, 100, 16, epochs=1, iters=5)


@pytest.mark.parametrize(
    ("init", "batch", "lr"),
    [
        ("random", 512, 5e-4),  # the released recipe's
        ("random", 1024, 1e-3),
        ("random", 16, 1.56e-5),  # 1.5625e-5
        ("sliced", 1024, 1e-4),  # docs/initialization.md
        ("sliced", 16, 1e-5),  # the quickstart's; a tenth of 1.56e-5 would be less
    ],
)
def test_lr(init: auto.Init, batch: int, lr: float) -> None:
    assert auto.choose_lr(init, batch).value == lr


def test_muon_has_its_own_lr_and_a_gpu_fits_on_more_views() -> None:
    found = [auto.choose_lr("sliced", 16, muon_iters=iters).value for iters in (60, 600, 6000)]
    assert found == [2e-5, 2e-4, 2e-4]
    # Random weights have nothing to keep.
    assert auto.choose_lr("random", 16, muon_iters=60).value == 2e-3
    assert (auto.choose_sliced_views(CPU), auto.choose_sliced_views(replace(CPU, device="cuda"))) == (1024, 2048)


def test_muon_is_for_hidden_states_and_short_runs_from_random_weights() -> None:
    chosen = {
        (init, hidden_states, short): auto.choose_optimizer(init, hidden_states, short) is not None
        for init in ("sliced", "random")
        for hidden_states, short in ((True, True), (False, True), (False, False))
    }
    assert [key for key, muon in chosen.items() if not muon] == [
        ("sliced", False, True),
        ("sliced", False, False),
        ("random", False, False),
    ]


@pytest.mark.parametrize(
    ("where", "load", "workers"),
    [
        (CPU, None, 1),
        (machine(device="cpu", cores=64), None, 4),
        (GPU, None, 10),  # the recipe's
        (machine(processes=8), None, 1),
        (machine(processes=2), None, 7),
        (GPU, 0.2, 1),
        (GPU, 4.0, 6),  # 4 cores busy, a quarter more in reserve
        (GPU, 100.0, 15),  # all but the training process's
        (CPU, 0.1, 1),
    ],
)
def test_workers(where: Machine, load: float | None, workers: int) -> None:
    assert auto.choose_workers(where, load).value == workers


def test_precision() -> None:
    assert [auto.choose_precision(each).value for each in (CPU, GPU, machine(bfloat16=False))] == [
        "float32",
        "bfloat16",
        "float32",
    ]


def test_precision_of_a_teacher_on_a_cpu() -> None:
    assert auto.choose_teacher_precision(CPU) is None
    chosen = auto.choose_teacher_precision(replace(CPU, teacher_bfloat16=True))
    assert chosen is not None
    assert chosen.value == "bfloat16"


def test_augmentation_is_mild_in_short_runs() -> None:
    assert auto.choose_augmentation(600 * 16, hidden_states=False).value == "mild"
    assert auto.choose_augmentation(10_000 * 128, hidden_states=False).value == "recipe"
    assert auto.choose_augmentation(10_000 * 128, hidden_states=True).value == "strong"


@pytest.mark.parametrize(
    ("images", "share"),
    [(20, 0.2), (114, 0.2), (400, 0.1), (2000, 0.05), (20_000, 0.05), (100_000, 0.02), (1_281_167, 0.0016)],
)
def test_held_out_share(images: int, share: float) -> None:
    assert auto.choose_held_out(images) == share


@pytest.mark.parametrize(
    ("iters", "val", "checkpoint", "log", "warmup"),
    [
        (2, 2, 2, 1, 0),
        (10, 10, 10, 1, 0),  # one step of warm-up would keep a thousandth of the rate
        (600, 200, 300, 50, 60),
        (24_000, 2_400, 1_200, 50, 400),  # 5 of 300 epochs of 80
        (375_300, 12_500, 2_500, 50, 6_255),  # 5 epochs of 1,251
    ],
)
def test_intervals(iters: int, val: int, checkpoint: int, log: int, warmup: int) -> None:
    assert auto.choose_val_interval(iters) == val
    assert auto.choose_checkpoint_interval(iters) == checkpoint
    assert auto.choose_log_interval(iters) == log
    assert auto.choose_warmup(iters) == warmup


@pytest.mark.parametrize(("device", "gpus", "processes"), [("cpu", None, 1), ("cpu", 2, 2), (None, 0, 1)])
def test_runs_on_the_cpu(device: str | None, gpus: int | None, processes: int) -> None:
    found = auto.this_machine(device, gpus)
    assert (found.device, found.processes, found.free_memory) == ("cpu", processes, 0)


def test_more_gpus_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UserError, match="gpus: found 2, but this machine has 1; write a number up to 1"):
        auto.this_machine(None, 2)
