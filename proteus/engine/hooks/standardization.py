"""Statistics of teachers' features, before the first step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.compat import checkpoint_of, is_resuming
from proteus.datasets import ProxySet
from proteus.datasets.proxy.fitting_views import fitting_keys, read_views
from proteus.engine.hooks.corrupt_images import corrupt_in, count_corrupt
from proteus.models import Distiller
from proteus.registry import HOOKS
from proteus.structures import Features, UserError
from proteus.utils.models import unwrap_model


@HOOKS.register_module()
class StandardizationHook(Hook):
    """Before the first iteration, compute the statistics of each standardised teacher on images of the proxy set.

    ``proteus train`` adds the hook to every run with a ``standardization``. The images are evenly spaced in the set,
    and always the same views of them; each process reads its share. A run that resumes keeps the statistics of its
    checkpoint, and one with a ``load_from`` those of the teachers that it has them for. With cached teachers the cached
    tokens are read.

    Raises:
        UserError: At the start: the training set is not a proxy set.
    """

    priority = "VERY_HIGH"  # before SlicedInitHook, which fits the heads to standardised tokens

    def before_train(self, runner: Runner) -> None:
        """Compute the statistics, once."""
        model = unwrap_model(runner.model)
        wanted = {
            name: distiller
            for name, distiller in getattr(model, "distillers", {}).items()
            if distiller.standardization is not None and not distiller.standardization.running
        }
        if not wanted or is_resuming(runner) or runner.iter:
            return
        kept = [name for name, each in wanted.items() if checkpoint_of(runner) and each.standardization.fitted]
        if kept:
            of = ", ".join(wanted.pop(name).teacher_key for name in kept)
            runner.logger.info(f"standardization: the statistics of {of} come from a checkpoint")
        dataset = runner.train_dataloader.dataset
        if wanted and not isinstance(dataset, ProxySet):
            raise UserError(
                f"{next(iter(wanted.values())).key}.standardization needs a proxy set for its statistics, and the "
                f"training set is {type(dataset).__name__}; write images=0 to compute them while training"
            )
        for name, distiller in wanted.items():
            start, count = time.time(), distiller.standardization.images
            corrupt: set[str] = set()
            distiller.standardization.fit(self._features(runner, model, name, distiller, count, corrupt))
            count_corrupt(runner, corrupt)
            runner.logger.info(
                f"standardization: {distiller.teacher_key} measured on {count:,} images in {time.time() - start:.0f} s"
            )

    def _features(
        self, runner: Runner, model: Any, name: str, distiller: Distiller, count: int, corrupt: set[str]
    ) -> Iterator[Features]:
        """Yield the teacher's features of this process's images; add the names of unreadable ones to ``corrupt``."""
        rank, world = get_dist_info()
        loader = runner.train_dataloader
        if distiller.teacher.collective:  # all processes run it equally often
            count = -(-count // world) * world
        keys = fitting_keys(len(loader.dataset), count)[:count][rank::world]
        size = loader.batch_size or 64
        batches = read_views(
            loader.dataset,
            keys,
            f"standardization of {distiller.teacher_key}",
            size,
            loader.num_workers,
            loader.collate_fn,
            loader.multiprocessing_context,
        )
        for number, batch in enumerate(batches):
            corrupt |= corrupt_in(batch)
            with torch.random.fork_rng(), torch.no_grad():
                torch.manual_seed(number * size)  # for preprocessors that mix or shift images
                data = model.data_preprocessor(batch, True)
                tokens = [data.get(key) for key in ("teacher_cls", "teacher_patches")]
                tokens = [each.get(name) if isinstance(each, dict) else each for each in tokens]
                images = data.get("teacher_inputs", data["inputs"])
                output = distiller.cached_output(images, *tokens)
                yield output.features if output is not None else distiller.teacher(images)
