"""Code of a test on two processes (gloo) on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from runs import tool

_SCRIPT = """
import os
import sys
import torch
import torch.distributed as dist

sys.path[:0] = [{folder!r}, {tests!r}]
rank = int(os.environ["RANK"])
dist.init_process_group("gloo")
{code}
torch.save(result, {out!r} + f"/{{rank}}")
dist.barrier()
dist.destroy_process_group()
"""


def on_two_ranks(code: str, test: str, out: Path) -> tuple[Any, Any]:
    """Run code on two ranks.

    Args:
        code: It has ``rank`` and ``torch``, may import the test's module by its name, and sets ``result``.
        test: ``__file__`` of the test.
        out: An empty folder.

    Returns:
        ``result`` of each rank: tensors, numbers, and lists and dicts of them.
    """
    script = out / "ranks.py"
    script.write_text(
        _SCRIPT.format(folder=str(Path(test).parent), tests=str(Path(__file__).parent), code=code, out=str(out))
    )
    done = tool(script, ranks=2)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (torch.load(out / f"{rank}", weights_only=True) for rank in (0, 1))
    return first, second
