#!/usr/bin/env python
"""Compare ways to distil a ViT-Ti/14 from a ViT-S/14 at equal teacher, pictures, views and threads (docs/study.md).

    python benchmarks/study.py --data DIR --out DIR
    python benchmarks/study.py --data DIR --out DIR --runs default-random sliced-default --seeds 1

Each contender is trained at each learning rate with one seed, evaluated on parts of the training data, and trained with
the other seeds at the best rate. Only those students see the test data. The same command continues an interrupted
study.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import torch
from measure import machine
from study_contenders import choose, format_list
from study_loop import Study
from study_peers import check_peers
from study_pictures import check_data
from study_results import write_results
from study_runs import Settings
from study_speed import PEER, measure_speed
from study_students import Evaluator

from proteus.structures import UserError
from proteus.utils import exclusive, write_json
from proteus.utils.user_errors import mistake


def parse_args(argv: Sequence[str] | None = None) -> Namespace:
    """Read the command line."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the data, in the layout of docs/study.md")
    parser.add_argument("--out", type=Path, help="folder for runs, table and pictures")
    parser.add_argument("--runs", nargs="+", metavar="NAME", help="contenders (default: all); see --list")
    parser.add_argument("--seeds", type=int, default=3, help="seeds at the best rate (default: %(default)s)")
    parser.add_argument("--views", type=int, default=9600, help="images that a student sees (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: %(default)s)")
    parser.add_argument(
        "--points",
        type=int,
        default=0,
        metavar="N",
        help="also evaluate averages of the weights at N times of a training",
    )
    parser.add_argument(
        "--speed",
        type=int,
        metavar="ROUNDS",
        help="only compare images/s of contenders (--runs, default-random by default) with lightly-train",
    )
    parser.add_argument("--list", action="store_true", help="list the contenders and exit")
    args = parser.parse_args(argv)
    if not args.list and (args.data is None or args.out is None):
        parser.error("--data and --out are needed, except with --list")
    if args.seeds < 1 or args.views < 32 or args.threads < 1 or (args.speed is not None and args.speed < 1):
        parser.error("--seeds, --threads and --speed are at least 1, --views at least 32")
    if not 0 <= args.points <= args.views // 32:
        parser.error("--points is at least 0, with 32 views or more between two of them")
    return args


def main(args: Namespace) -> int:
    """Run the study, and return its exit status."""
    if args.list:
        print(format_list())
        return 0
    contenders = choose(["default-random"] if args.speed and not args.runs else args.runs)
    if args.speed and not all(each.trains and not each.peer for each in contenders):
        raise UserError("--speed: compares trainings by Proteus with lightly-train; name such contenders with --runs")
    check_data(args.data)
    check_peers(choose([PEER]) if args.speed else contenders)
    torch.set_num_threads(args.threads)
    settings = Settings(args.data, args.out.absolute(), args.views, args.threads, args.points)
    settings.out.mkdir(parents=True, exist_ok=True)
    with exclusive(settings.out, "a study", remedy="wait for it, or name another folder with --out"):
        if args.speed:
            figures = measure_speed(contenders, settings, args.speed)
            write_json(settings.out / "speed.json", {**figures, "machine": machine()}, indent=1)
            return 0
        study = Study(settings, args.seeds, Evaluator(args.data))
        names = write_results(study, contenders, study.rows(contenders))
    print((settings.out / "study.md").read_text())
    print(f"written to {settings.out}: {', '.join(names)}")
    return int(bool(study.failures))


if __name__ == "__main__":
    try:
        sys.exit(main(parse_args()))
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        sys.exit(130)
    except (UserError, OSError) as error:
        print(f"error: {mistake(error) or error}", file=sys.stderr)
        sys.exit(2)
