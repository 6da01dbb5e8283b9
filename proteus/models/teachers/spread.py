"""Teachers spread over processes: each is held by one process, which runs it on the images of several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
from mmengine.dist import get_dist_info
from torch import Tensor
from torch.utils import _pytree

from proteus.structures import UserError

if TYPE_CHECKING:
    from proteus.models.teachers.teacher import Teacher, TeacherOutput


@dataclass(frozen=True)
class SpreadPlan:
    """Which process of a group holds which teacher; every group of processes holds each teacher once.

    Attributes:
        sizes: Number of parameters of each teacher, by name.
        holders: For each teacher, by name, the position in its group of the process that holds it.
        processes: Number of processes of a group.
    """

    sizes: Mapping[str, int]
    holders: Mapping[str, int]
    processes: int

    @classmethod
    def of(cls, sizes: Mapping[str, int], world: int) -> SpreadPlan:
        """Plan groups of as many processes as there are teachers.

        If that number does not divide ``world``, groups are the next larger ones that do, and some processes hold no
        teacher. If there are fewer processes than teachers, all are one group. The largest teachers are placed first,
        each on the process that holds least.

        Args:
            sizes: Number of parameters of each teacher, by name.
            world: Number of all processes.
        """
        processes = next(count for count in range(min(len(sizes), world), world + 1) if world % count == 0)
        held = [0] * processes
        holders = {}
        for name in sorted(sizes, key=lambda name: -sizes[name]):
            holders[name] = held.index(min(held))
            held[holders[name]] += sizes[name]
        return cls(dict(sizes), {name: holders[name] for name in sizes}, processes)

    @property
    def largest(self) -> int:
        """Number of parameters of the teachers of the process that holds most."""
        return max(sum(self.sizes[name] for name in names) for names in self._names())

    def describe(self) -> str:
        """Describe in one line which process holds which teachers."""
        parts = []
        for position, names in enumerate(self._names()):
            held = " and ".join(f"{name} ({self.sizes[name] / 1e6:.2f} M parameters)" for name in names)
            parts.append(f"process {position} holds {held or 'no teacher'}")
        return f"in each group of {self.processes} processes, {', '.join(parts)}"

    def _names(self) -> list[list[str]]:
        return [
            [name for name, holder in self.holders.items() if holder == position] for position in range(self.processes)
        ]


class Request(NamedTuple):
    """What is asked of a teacher for a batch.

    Attributes:
        teacher: The teacher, on other processes than its holder's on the meta device.
        logits: Whether class scores are needed.
        hidden_states: Whether the residual stream after each block is needed.
    """

    teacher: Teacher
    logits: bool = False
    hidden_states: bool = False

    def encode(self, images: Tensor) -> TeacherOutput:
        """Run the teacher in this process; without values if it is on the meta device."""
        return self.teacher.encode_here(images, self.logits, self.hidden_states)


class TeacherExchange:
    """Runs teachers that are spread over the processes of a group, for the images of all of them.

    ``MultiTeacherDistiller.spread_teachers`` makes one.

    In each call all processes of the group take part, with as many images, and with the same teachers. The images go to
    all processes, each process runs its own teachers on the images of one process at a time, as many as without
    spreading, and the features go back.

    Args:
        plan: Which process holds which teacher.
    """

    def __init__(self, plan: SpreadPlan) -> None:
        self.plan = plan
        self.rank, self.world = get_dist_info()
        self.position = self.rank % plan.processes
        self._groups: tuple[Any, Any] | None = None
        self._outlines: dict[Any, tuple[list[Any], Any]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> TeacherExchange:
        # An EMA deep-copies the model; groups of processes cannot be copied.
        return self

    def holds(self, name: str) -> bool:
        """Whether this process holds a teacher."""
        return self.plan.holders[name] == self.position

    @torch.no_grad()
    def run(self, requests: Mapping[str, Request], images: Tensor) -> dict[str, TeacherOutput]:
        """Return the output of each teacher for the images of this process.

        Args:
            requests: For each teacher, by name, what is asked of it.
            images: ``(B, 3, H, W)``.

        Raises:
            UserError: The processes of the group have batches of different shapes.
        """
        group, host_group = self._made_groups()
        self._check_shapes(images, host_group)
        # 1. Images of all processes of the group.
        own = images.contiguous()
        batches = [torch.empty_like(own) for _ in range(self.plan.processes)]
        dist.all_gather(batches, own, group=group)
        # 2. The teachers of this process. All run before any features are sent, for which the others would wait.
        held = {name: request for name, request in requests.items() if self.holds(name)}
        found = {name: [request.encode(each) for each in batches] for name, request in held.items()}
        del batches
        # 3. Features, teacher by teacher.
        return {
            name: self._scatter(name, request, images, found.pop(name, None), group)
            for name, request in requests.items()
        }

    def _scatter(
        self, name: str, request: Request, images: Tensor, outputs: list[TeacherOutput] | None, group: Any
    ) -> TeacherOutput:
        """Send the holder's ``outputs`` for the images of each process, and return those for this one."""
        if outputs is None:
            sent: list[list[Any]] = []
            like, structure = self._outline(name, request, images)
        else:
            sent = [_pytree.tree_flatten(each)[0] for each in outputs]
            like, structure = _pytree.tree_flatten(outputs[0])
        source = self.rank - self.position + self.plan.holders[name]
        received: list[Tensor | None] = []
        for number, tensor in enumerate(like):
            if tensor is None:  # no logits
                received.append(None)
                continue
            part = torch.empty(tensor.shape, dtype=tensor.dtype, device=images.device)
            dist.scatter(part, [each[number].contiguous() for each in sent] or None, src=source, group=group)
            received.append(part)
        output: TeacherOutput = _pytree.tree_unflatten(received, structure)
        return output

    def _outline(self, name: str, request: Request, images: Tensor) -> tuple[list[Any], Any]:
        """Shapes of the output of a teacher that another process holds, computed once for each kind of request."""
        key = (name, images.shape, request.logits, request.hidden_states)
        if key not in self._outlines:
            self._outlines[key] = _pytree.tree_flatten(request.encode(images.to("meta")))
        return self._outlines[key]

    def _made_groups(self) -> tuple[Any, Any]:
        """The group of this process, and the same on the host; made at the first use, in which all take part."""
        if self._groups is None:
            for first in range(0, self.world, self.plan.processes):
                ranks = list(range(first, first + self.plan.processes))
                group = dist.new_group(ranks)
                # Numbers on the host, so that checking them does not wait for the device.
                host_group = group if dist.get_backend() == "gloo" else dist.new_group(ranks, backend="gloo")
                if self.rank in ranks:
                    self._groups = (group, host_group)
        assert self._groups is not None
        return self._groups

    def _check_shapes(self, images: Tensor, host_group: Any) -> None:
        own = torch.tensor(images.shape)
        shapes = [torch.empty_like(own) for _ in range(self.plan.processes)]
        dist.all_gather(shapes, own, group=host_group)
        if all(torch.equal(each, own) for each in shapes):
            return
        first = self.rank - self.position
        listed = ", ".join(f"{'x'.join(map(str, each.tolist()))} on {first + n}" for n, each in enumerate(shapes))
        raise UserError(
            f"model.spread_teachers=True needs batches of one shape on all processes, and they are {listed}: write "
            "drop_last=True in the dataloader, or spread_teachers=False"
        )


class SpreadTeacher(NamedTuple):
    """What a teacher that is spread knows of the others.

    Attributes:
        name: Its name.
        exchange: Runs it where it is held.
    """

    name: str
    exchange: TeacherExchange

    @property
    def held(self) -> bool:
        """Whether this process holds the teacher; otherwise it stays on the meta device."""
        return self.exchange.holds(self.name)
