"""Teachers that do not fit on one device: each rank keeps a part of every block (PyTorch's FSDP2)."""

from __future__ import annotations

import torch
import torch.distributed as dist
from mmengine.dist import get_world_size
from mmengine.logging import print_log
from torch import nn


def shards_wanted(shard: bool) -> bool:
    """Whether to shard the teacher; with one process the log says that ``shard`` has no effect."""
    if shard and get_world_size() == 1:
        print_log("teacher.shard=True has no effect: there is one process", logger="current")
    return shard and get_world_size() > 1


def blocks_of(backbone: nn.Module) -> list[nn.Module]:
    """The parts of a backbone that are gathered one after the other.

    They are what stands in its outermost lists of equal modules: a ViT's blocks, a CNN's stages or blocks.

    Raises:
        ValueError: It has no such list.
    """
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for part in backbone.modules():
        children = list(part.children())
        alike = len(children) > 1 and len({type(child) for child in children}) == 1
        if part not in inside and isinstance(part, (nn.Sequential, nn.ModuleList)) and alike:
            found += [child for child in children if any(True for _ in child.parameters())]
            inside.update(part.modules())
    if not found:
        raise ValueError(f"teacher.shard=True: {type(backbone).__name__} has no row of equal blocks; write shard=False")
    return found


def shard_blocks(backbone: nn.Module, device: torch.device) -> None:
    """Give each rank its part of a frozen backbone, in place.

    From then on a forward pass gathers a block's weights, runs it, and lets go of the others' parts; all ranks must
    take part in each. What is in no block (embeddings, the last norm) is gathered once and kept.

    Args:
        backbone: In the dtype that it computes in, wherever its weights are. They move to ``device`` a block at a
            time, so that no device ever holds them all.
        device: Where this rank computes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in blocks_of(backbone):
        fully_shard(block, mesh=mesh)
    fully_shard(backbone, mesh=mesh)
    for method in ("levels", "encode_with_hidden_states"):  # what a teacher calls in addition to ``forward``
        if hasattr(backbone, method):
            register_fsdp_forward_method(backbone, method)
