from pathlib import Path

import pytest
from runs import start

from proteus.engine.runner import leave_processes

LEAVE = """
import sys
import torch.distributed as dist
from proteus.engine.runner import leave_processes
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
print("done", rank)
leave_processes(3)
print("never")
"""


def test_a_single_process_continues() -> None:
    leave_processes(3)


@pytest.mark.slow
def test_ranks_exit_with_their_status_and_flush_their_output(tmp_path: Path) -> None:
    script, logs = tmp_path / "leave.py", [tmp_path / f"{rank}.log" for rank in range(2)]
    script.write_text(LEAVE)
    ranks = [start(script, rank, tmp_path / "store", log=logs[rank]) for rank in range(2)]
    for rank in ranks:
        rank.join(120)
    assert [log.read_text().strip() for log in logs] == ["done 0", "done 1"]
    assert [rank.exitcode for rank in ranks] == [3, 3]
