"""Initialization of a student as a slice of its teacher."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from mmengine.dist import broadcast, broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from proteus.compat import checkpoint_of, is_resuming
from proteus.datasets import ProxySet
from proteus.datasets.proxy.fitting_views import read_fitting_views
from proteus.engine.hooks.corrupt_images import corrupt_in, count_corrupt
from proteus.models import Distiller, HiddenStatesObjective
from proteus.models.initialization import check_slice, fit_heads, slice_teacher
from proteus.registry import HOOKS
from proteus.structures import UserError
from proteus.utils.models import unwrap_model
from proteus.utils.precision import no_autocast

Report = Callable[[], None]
Result = TypeVar("Result")

_WORKING, _DONE = "working", "done"


@HOOKS.register_module()
class SlicedInitHook(Hook):
    """Before the first iteration, initialize student and heads from the teacher, fitted on images of the proxy set.

    :func:`~proteus.models.initialization.slice_teacher` initializes the student, and the linear layers of the heads
    become the regression from its tokens to the teacher's. A :class:`~proteus.models.HiddenStatesObjective` gets the
    coordinates of the slice. Use a lower learning rate than from random weights, so that
    training keeps what is there. Rank 0 reads the views with the workers of the training loader, computes and
    broadcasts the weights. A run that resumes or has ``load_from`` keeps its checkpoint's weights.

    This is not the paper's recipe, where students start from random weights.

    Args:
        views: Number of views to fit the student on, of evenly spaced images of the proxy set; several of each image
            in a smaller set. The heads are fitted on the same number of other views, on which the student's errors are
            those of new images.
        batch_size: Views per batch.
        pipeline: Transforms of the views; by default :func:`~proteus.datasets.proxy.fitting_views.fitting_pipeline`,
            mild ones of image files, whatever the training's augmentation.
        teacher: Name of the teacher that the student becomes a slice of, if ``model.teachers`` are several. The heads
            of all of them are fitted.

    Raises:
        ValueError: ``views`` or ``batch_size`` is below 1.
    """

    priority = "HIGH"  # before OnlineEvalHook, which then evaluates the initialized student

    def __init__(
        self,
        views: int = 512,
        batch_size: int = 32,
        pipeline: Sequence[Mapping[str, Any]] | None = None,
        teacher: str | None = None,
    ) -> None:
        for name, value in (("views", views), ("batch_size", batch_size)):
            if value < 1:
                raise ValueError(f"SlicedInitHook.{name}={value}: write at least 1")
        self.views = views
        self.batch_size = batch_size
        self.pipeline = pipeline
        self.teacher = teacher
        self._done = False

    def before_train(self, runner: Runner) -> None:
        """Initialize the weights, once.

        Raises:
            UserError: Student and teacher do not match, the training set is not a proxy set, ``teacher`` is not one of
                several, or missing, or a teacher is sharded.
            CorruptProxySetError: Too many images cannot be read; before the fit.
        """
        if self._done:
            return
        self._done = True
        if is_resuming(runner) or checkpoint_of(runner) or runner.iter:
            runner.logger.info("sliced initialization skipped: the weights come from a checkpoint")
            return
        model = unwrap_model(runner.model)
        sliced = self._sliced(model)
        for distiller in model.distillers.values():  # rank 0 runs them all, to fit the heads
            if distiller.teacher.sharded:
                raise UserError(
                    f"SlicedInitHook runs all teachers in one process: remove it, or write "
                    f"{distiller.teacher_key}.shard=False"
                )
        for distiller in sliced.values():
            try:
                check_slice(distiller.student, distiller.teacher)
            except ValueError as error:
                raise UserError(f"SlicedInitHook: {error}") from error
        runner.logger.info(
            f"sliced initialization: fitting the student on {self.views:,} views; this takes minutes on a CPU"
        )
        images = self._read(runner, model)
        # The student is there before the heads of its other teachers are fitted.
        for name, distiller in {**sliced, **model.distillers}.items():
            _with_news_for_others(partial(self._fill, runner, name or "student", distiller, images, name in sliced))
            objectives = distiller.objectives
            for tensor in (*distiller.student.parameters(), *objectives.parameters(), *objectives.buffers()):
                broadcast(tensor.data)

    def _sliced(self, model: Any) -> dict[str, Distiller]:
        """Return the pairs of teacher and student of which the student becomes a slice, by name."""
        pairs: dict[str, Distiller] = model.distillers
        wanted, names = self.teacher, [name for name in model.teachers_by_name if name]
        if not names:
            if wanted is not None:
                raise UserError(f"SlicedInitHook.teacher={wanted!r}: the run has one teacher, without a name")
            return pairs
        if getattr(model, "spread_plan", None) is not None:
            raise UserError("SlicedInitHook runs all teachers in one process: remove it, or model.spread_teachers")
        if wanted is None or wanted not in names:
            found = "missing" if wanted is None else f"unknown teacher {wanted!r}"
            raise UserError(
                f"SlicedInitHook.teacher: {found}; name the one that the student becomes a slice of: {', '.join(names)}"
            )
        return {wanted: pairs[wanted]}

    def _read(self, runner: Runner, model: Any) -> Tensor | None:
        """Return the views on rank 0, and None on the others; name the images that cannot be read."""
        loader = runner.train_dataloader
        if not isinstance(loader.dataset, ProxySet):
            raise UserError(
                f"SlicedInitHook needs a proxy set, and the training set is {type(loader.dataset).__name__}: remove "
                "the hook, or write train_dataloader.dataset=dict(type='ImageFolder', ...)"
            )
        size = next(iter(model.distillers.values())).student.img_size
        corrupt: set[str] = set()

        def read(report: Report) -> Tensor:
            images = []
            for batch in read_fitting_views(
                loader.dataset,
                self.views,
                size,
                self.pipeline,
                title="views for the sliced initialization",
                num_workers=loader.num_workers,
                collate_fn=loader.collate_fn,
                multiprocessing_context=loader.multiprocessing_context,
            ):
                corrupt.update(corrupt_in(batch))
                images.append(model.data_preprocessor(batch)["inputs"])
                report()
            return torch.cat(images)

        images = _with_news_for_others(read)
        # Before the fit, which takes minutes and would be repeated after the images were repaired.
        count_corrupt(runner, corrupt)
        return images

    def _fill(
        self, runner: Runner, name: str, distiller: Distiller, images: Tensor | None, sliced: bool, report: Report
    ) -> None:
        assert images is not None
        start, training, errors = time.time(), distiller.training, []

        def use_basis(basis: Tensor) -> None:
            for objective in distiller.objectives_by_name.values():
                if isinstance(objective, HiddenStatesObjective):
                    objective.set_basis(basis)
            report()

        distiller.eval()
        with no_autocast(images.device):
            if sliced:
                errors = slice_teacher(
                    distiller.student,
                    distiller.teacher,
                    images[: self.views],
                    self.batch_size,
                    on_block=lambda *_: report(),
                    on_basis=use_basis,
                )
            fitted = fit_heads(distiller, images[self.views :], self.batch_size, on_batch=report)
        distiller.train(training)
        unfitted = [
            objective_name
            for objective_name, objective in distiller.objectives_by_name.items()
            if objective_name not in fitted and any(True for _ in objective.parameters())
        ]
        unexplained = ", ".join(f"{error:.2f}" for error in errors)
        runner.logger.info(
            f"sliced initialization: {name} fitted on {self.views:,} views in {time.time() - start:.0f} s; "
            + (f"fraction of variance unexplained after each block: {unexplained}; " if sliced else "")
            + f"heads fitted: {', '.join(fitted) or 'none'}"
            + (f"; heads unchanged: {', '.join(unfitted)}" if unfitted else "")
        )


def _with_news_for_others(work: Callable[[Report], Result]) -> Result | None:
    """Let rank 0 work for long while the others wait and hear of it; all ranks call this together.

    ``utils.ranks.on_first_rank`` shares the result, but runs in a thread, which suits files and no models.

    Args:
        work: Calls its argument every few minutes at most: ranks that hear nothing for long take the run for dead.

    Returns:
        What ``work`` returned on rank 0, and None on the others.

    Raises:
        UserError: What ``work`` raised, on every rank.
    """
    result: Result | None = None
    news: list[Any] = [_WORKING]
    if is_main_process():
        try:
            result = work(lambda: broadcast_object_list([_WORKING]))
            news = [_DONE]
        except UserError as error:
            news = [error]
        broadcast_object_list(news)
    while news[0] == _WORKING:
        broadcast_object_list(news)
    if isinstance(news[0], UserError):
        raise news[0]
    return result
