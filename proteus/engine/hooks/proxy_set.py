"""Description of the proxy set in log and work directory."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from proteus.datasets import ProxySet, SampleKey, distill_collate
from proteus.datasets.proxy.collate import check_sample
from proteus.datasets.proxy.seeded_set import SeededSet, has_own_seeds
from proteus.datasets.proxy.subsampling import write_list
from proteus.registry import HOOKS


@HOOKS.register_module()
class ProxySetHook(Hook):
    """At the start, log the proxy set's composition, and list the images of subsets in the work directory.

    The list is ``proxy_set.txt``, or ``proxy_set.<name>.txt`` for a member of a ``ConcatProxySet``. As the set's
    ``list_file``, it selects the same images again.
    """

    def before_train(self, runner: Runner) -> None:
        """Check a sample, log the composition, and write the lists.

        Raises:
            DataError: A sample of a user's data set cannot be trained on.
        """
        loader = runner.train_dataloader
        dataset, collate = loader.dataset, getattr(loader, "collate_fn", None)
        guest = not has_own_seeds(dataset.dataset if isinstance(dataset, SeededSet) else dataset)
        if guest and getattr(collate, "func", collate) is distill_collate:
            check_sample(dataset[SampleKey(0, 0, 0)])
        if not isinstance(dataset, ProxySet) or not is_main_process():
            return
        runner.logger.info(f"proxy set: {dataset.describe()}")
        for name, images in dataset.chosen().items():
            path = Path(runner.work_dir) / (f"proxy_set.{name}.txt" if name else "proxy_set.txt")
            write_list(path, images, f"{len(images):,} images of the proxy set, for list_file=")
            runner.logger.info(f"images of the proxy set: {path}")
