"""FLOPs of a whole run with several image sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config

from proteus.apis.model_cost import GIB, step_cost
from proteus.config.check_resolution import mask_patches_of, schedule_of
from proteus.models.distillers.scheduled_sizes import check_scheduled_sizes
from proteus.utils.resolution_schedule import ResolutionSchedule, Segment


@dataclass(frozen=True)
class ScheduleCost:
    """Cost of a run by one process.

    Attributes:
        schedule: The schedule.
        flops_per_image: FLOPs of a step per image, by height and width of the images.
        memory: Bytes of a step in bfloat16, by number, height and width of its images.
    """

    schedule: ResolutionSchedule
    flops_per_image: Mapping[tuple[int, int], float]
    memory: Mapping[tuple[int, int, int], float]

    @property
    def images(self) -> int:
        """Images that the run sees."""
        return sum(_images(segment) for segment in self.schedule.segments)

    @property
    def flops(self) -> float:
        """FLOPs of all its steps."""
        return sum(_images(segment) * self.flops_per_image[segment.size] for segment in self.schedule.segments)

    @property
    def share(self) -> float:
        """``flops`` as a fraction of those of as many images of the last size."""
        return self.flops / (self.images * self.flops_per_image[self.schedule.segments[-1].size])


def schedule_cost(model: Any, cfg: Config) -> ScheduleCost | None:
    """Count the steps of a run on the meta device, one for each size.

    Args:
        model: A ``Distiller`` or ``MultiStudentDistiller`` on the meta device.
        cfg: Its config.

    Returns:
        None if the config has no schedule of image sizes.

    Raises:
        UserError: A teacher does not take a size, or masks do not fit a student at one.
    """
    schedule = schedule_of(cfg)
    if schedule is None:
        return None
    check_scheduled_sizes(model, schedule.sizes, mask_patches_of(cfg))
    parts = [model] if hasattr(model, "student") else list(model.distillers.values())  # one per student
    costs = {size: [step_cost(each, cfg, size) for each in parts] for size in schedule.sizes}
    flops = {size: sum(c.step_flops for c in each) - _shared(each) for size, each in costs.items()}
    memory = {
        segment.shape: sum(cost.memory(segment.batch_size, True) for cost in costs[segment.size])
        for segment in schedule.segments
    }
    return ScheduleCost(schedule, flops, memory)


def describe_schedule(model: Any, cfg: Config) -> list[tuple[str, str]]:
    """Describe the schedule of image sizes of a run and its cost: titles and texts of rows, none without a schedule."""
    cost = schedule_cost(model, cfg)
    if cost is None:
        return []
    texts = [_describe(segment, cost) for segment in cost.schedule.segments]
    last = _by(cost.schedule.segments[-1].size)
    total = (
        f"{_flops(cost.flops)} for {cost.images:,} images of a process, {cost.share:.0%} of what as many images of "
        f"{last} px take"
    )
    titles = ["resolution", *[""] * (len(texts) - 1), "run"]
    return list(zip(titles, [*texts, total], strict=True))


def _describe(segment: Segment, cost: ScheduleCost) -> str:
    rate = "" if segment.lr_factor == 1 else f", learning rate x {segment.lr_factor:.3g}"
    return (
        f"{_by(segment.size)} px up to iteration {segment.end:,}: {segment.batch_size} images of "
        f"{cost.flops_per_image[segment.size] / 1e9:.1f} GFLOPs, about {cost.memory[segment.shape] / GIB:.1f} GiB in "
        f"bfloat16{rate}"
    )


def _flops(count: float) -> str:
    unit, name = next((pair for pair in ((1e18, "E"), (1e15, "P"), (1e12, "T")) if count >= pair[0]), (1e9, "G"))
    return f"{count / unit:.4g} {name}FLOPs"


def _shared(costs: list[Any]) -> float:
    """FLOPs that are counted for each student, and run once for all: the teacher's."""
    return (len(costs) - 1) * costs[0].teacher_flops


def _images(segment: Segment) -> int:
    assert segment.end is not None
    return (segment.end - segment.begin) * segment.batch_size


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
