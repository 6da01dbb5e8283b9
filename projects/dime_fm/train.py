#!/usr/bin/env python
"""Build the missing teacher caches of a config, then train it.

    python -m projects.dime_fm.train projects/dime_fm/configs/mobilenetv4_random-clip_packaged.py

On several GPUs run the three steps separately: tools/cache_teacher.py, projects.dime_fm.cache_sentences,
tools/train.py.
"""

from __future__ import annotations

from argparse import Namespace, RawDescriptionHelpFormatter

from mmengine.config import Config

from projects.dime_fm import cache_sentences
from proteus.apis import ConfigError, load_config, set_work_dir, train
from proteus.apis.cache_teacher import build, format_plan, prepare
from proteus.cli.run import ToolParser, add_config_arguments, run
from proteus.config.check_consistency import has_fixed_views


def parse_args() -> Namespace:
    """Read the command line."""
    return add_config_arguments(
        ToolParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    ).parse_args()


def fill_caches(cfg: Config) -> None:
    """Build the missing caches of sentences and of fixed views that a config reads."""
    if cache_sentences.wanted(cfg):
        cache_sentences.build(cfg)
    dataset = cfg.train_dataloader.dataset
    if has_fixed_views(dataset) and dataset.get("cache"):
        job = prepare(cfg)
        if job.missing():
            print(format_plan(job), flush=True)
        build(job)


def main(args: Namespace) -> int:
    """Fill the caches and train."""
    if args.launcher not in (None, "none"):
        raise ConfigError(["is for tools/train.py; build the caches first (see --help)"], "--launcher")
    cfg = load_config(args.config, args.cfg_options)
    set_work_dir(cfg, args.work_dir)
    fill_caches(cfg)
    train(cfg)
    return 0


if __name__ == "__main__":
    run(main, parse_args())
