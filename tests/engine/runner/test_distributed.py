import subprocess
import sys

import pytest

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
def test_ranks_exit_with_their_status_and_flush_their_output(tmp_path) -> None:
    command = [sys.executable, "-c", LEAVE]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    outputs = [rank.communicate(timeout=120)[0].strip() for rank in ranks]
    assert outputs == ["done 0", "done 1"]
    assert [rank.returncode for rank in ranks] == [3, 3]
