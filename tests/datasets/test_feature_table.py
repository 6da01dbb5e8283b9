import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import run_code

from proteus.datasets import FeatureTable, SampleKey, table_collate
from proteus.structures import DataError

Save = Callable[..., dict[str, str]]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    def save(features: Any, labels: Any) -> dict[str, str]:
        np.save(tmp_path / "x.npy", features)
        np.save(tmp_path / "y.npy", labels)
        return {"features": str(tmp_path / "x.npy"), "labels": str(tmp_path / "y.npy")}

    return save


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((6, 5, 8)).astype(np.float16)


def test_rows_and_batches(save: Save, tokens: np.ndarray) -> None:
    table = FeatureTable(**save(tokens, np.array([2, 0, 1, 1, 0, 2])), num_classes=3, width=8)
    assert len(table) == 6
    batch = table_collate([table[SampleKey(0, 3, 5)], table[1]])
    assert torch.equal(batch["tokens"], torch.from_numpy(tokens[[5, 1]]))
    assert batch["labels"].tolist() == [2, 0]
    assert batch["labels"].dtype == torch.int64
    assert [each.row for each in batch["data_samples"]] == [5, 1]


def test_samples_are_writable(save: Save, tokens: np.ndarray) -> None:
    files = save(tokens, np.zeros(6, dtype=int))
    FeatureTable(**files)[0]["tokens"].zero_()
    assert np.array_equal(np.load(files["features"]), tokens)


def test_pickled_tables_have_file_names_and_no_content(save: Save) -> None:
    table = FeatureTable(**save(np.ones((2000, 5, 8), np.float32), np.arange(2000)))
    pickled = pickle.dumps(table)
    assert len(pickled) < 2000
    assert torch.equal(pickle.loads(pickled)[7]["tokens"], table[7]["tokens"])


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        ([0, 1, 2, 0, 1, 3], {"num_classes": 3}, r"row 5 of .*y\.npy is 3 \(1 rows.*from 0 to .* = 2"),
        ([0, 1, -1, 0, 1, -1], {}, r"row 2 of .*y\.npy is -1 \(2 rows"),
        ([0, 1, 2], {}, r"y\.npy has 3 rows, but .*x\.npy has 6"),
        ([0.0] * 6, {}, r"y\.npy holds float64 \(6,\); expected integers"),
        ([0] * 6, {"width": 384}, r"x\.npy has tokens of width 8, but dataset\.width=384"),
    ],
    ids=["label", "negative label", "lengths", "no numbers of classes", "width"],
)
def test_files_that_do_not_fit(save: Save, tokens: np.ndarray, labels: list[Any], options: dict, words: str) -> None:
    with pytest.raises(DataError, match=words):
        FeatureTable(**save(tokens, labels), **options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite(save: Save, tokens: np.ndarray, value: float) -> None:
    tokens[3, 4, 0] = value
    table = FeatureTable(**save(tokens, np.zeros(6, dtype=int)))
    assert table[2]["data_samples"].row == 2
    with pytest.raises(DataError, match=r"row 3 of .*x\.npy has NaN or infinite values"):
        table[3]


def test_files_with_other_arrays(save: Save, tokens: np.ndarray, tmp_path: Path) -> None:
    files = save(tokens, np.zeros(6, dtype=int))
    with pytest.raises(DataError, match=r"x\.npy holds float16 \(6, 8\)"):
        FeatureTable(**save(tokens[:, 0], np.zeros(6, dtype=int)))
    with pytest.raises(DataError, match=r"x\.npy holds int64 \(6, 5, 8\)"):
        FeatureTable(**save(tokens.astype(np.int64), np.zeros(6, dtype=int)))
    with pytest.raises(FileNotFoundError, match=r"dataset\.labels: .*gone.* does not exist"):
        FeatureTable(features=files["features"], labels=str(tmp_path / "gone.npy"))
    save(tokens, np.zeros(6, dtype=int))
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:300])
    with pytest.raises(DataError, match=r"x\.npy is not an array.*cut short"):
        FeatureTable(**files)
    np.save(tmp_path / "x.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"x\.npy is not an array"):
        FeatureTable(**files)


SCRIPT = """
import os, re, resource, sys
import torch
from torch.utils.data import DataLoader
from proteus.datasets import FeatureTable, ProxySampler, table_collate
from proteus.models import LinearProbe

def kib(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1])

os.chdir(sys.argv[2])
backbone = dict(type="ViT", arch="tiny", img_size=28, embed_dim=256, depth=4, num_heads=4)
probe = LinearProbe(backbone, num_classes=10, learning_rates=(0.1,))
optimizer = torch.optim.SGD(probe.heads.parameters(), lr=0.1)

def step(batch):
    loss = probe(**batch, mode="loss")["loss_heads"]
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    return len(batch["labels"])

# Exclude what torch allocates at its first step.
step(dict(tokens=torch.zeros(512, 5, 256).half(), labels=torch.zeros(512).long()))
allowed = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, ((kib("VmData") << 10) + allowed,) * 2)
before, seen = kib("RssAnon"), 0
if sys.argv[3] == "load":
    import numpy
    numpy.load("x.npy")
table = FeatureTable(features="x.npy", labels="y.npy", num_classes=10, width=256)
loader = DataLoader(table, batch_size=512, sampler=ProxySampler(table, seed=0), collate_fn=table_collate)
for batch in loader:
    seen += step(batch)
    if seen >= len(table):
        break
print("grown", (kib("RssAnon") - before) << 10)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc are Linux's")
def test_tables_larger_than_memory(tmp_path: Path) -> None:
    """An epoch of a probe over 128 MiB of features in a process that may grow by 24 MiB."""
    rows, allowed = 52_429, 24 << 20
    table = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float16, shape=(rows, 5, 256))
    block = np.random.default_rng(0).standard_normal((8192, 5, 256), dtype=np.float32).astype(np.float16)
    for start in range(0, rows, len(block)):
        table[start : start + len(block)] = block[: rows - start]
    table.flush()
    np.save(tmp_path / "y.npy", np.arange(rows) % 10)
    assert (tmp_path / "x.npy").stat().st_size > 5 * allowed

    done = run_code(SCRIPT, allowed, tmp_path, "map")
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split("grown")[1]) < allowed
    # The limit works: reading the whole file fails.
    assert "MemoryError" in run_code(SCRIPT, allowed, tmp_path, "load").stderr
