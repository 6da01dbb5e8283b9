"""Repeated launches of two ranks: one that hangs, fails or computes something else once in a while shows up here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import runs

RANK = """
from argparse import Namespace
from pathlib import Path
import sys

from toy_runs import toy_config, train_toy

from proteus.cli.run import run

def main(_):
    cfg = toy_config(Path(sys.argv[1]), max_iters=2, launcher="pytorch", train_dataloader__sampler__shuffle=True)
    line = train_toy(cfg).model.module.line
    print(f"weights {line.weight.item()!r} {line.bias.item()!r}", flush=True)

run(main, Namespace())
"""


@pytest.mark.slow
def test_twenty_launches_of_two_ranks_end_with_equal_weights(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    weights = set()
    for number in range(20):
        output = runs.trained(str(script), tmp_path / str(number), ranks=2)
        # The ranks share a terminal, and may end their lines after both have written.
        found = re.findall(r"weights ([-+.\de]+ [-+.\de]+)", output)
        assert len(found) == 2, f"launch {number}: {output[-3000:]}"
        weights.update(found)
        assert (tmp_path / str(number) / "iter_2.pth").is_file()
    assert len(weights) == 1
