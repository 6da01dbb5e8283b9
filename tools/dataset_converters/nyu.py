#!/usr/bin/env python
"""Convert NYU Depth V2 to the Monocular-Depth-Estimation-Toolbox's layout; run it again to resume.

Training: BTS's 24,231 pairs with --train sync.zip. Testing: the 654 official frames with --labelled
nyu_depth_v2_labeled.mat --splits splits.mat, or with --test an archive of them as prepared by BTS. Without
--train, the 795 training frames of the labelled files are used.
"""

from argparse import Namespace, RawDescriptionHelpFormatter

from proteus.cli.run import ToolParser, existing_file, out_folder, run
from proteus.datasets import NYUDepth
from proteus.datasets.converters.archive import format_summary
from proteus.datasets.converters.nyu_archive import convert_archive
from proteus.datasets.converters.nyu_labelled import convert_labelled
from proteus.datasets.converters.nyu_split import Converted, Split


def parse_args() -> Namespace:
    parser = ToolParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("target", type=out_folder, help="folder to write to: a config's data_root")
    parser.add_argument("--train", type=existing_file, metavar="ZIP", help="archive of the training pairs")
    parser.add_argument("--test", type=existing_file, metavar="ZIP", help="archive of the test pairs; may be the same")
    parser.add_argument(
        "--train-list", type=existing_file, metavar="TXT", help="list of pairs (default: the list in the archive)"
    )
    parser.add_argument("--test-list", type=existing_file, metavar="TXT", help="list of test pairs")
    parser.add_argument("--labelled", type=existing_file, metavar="MAT", help="nyu_depth_v2_labeled.mat")
    parser.add_argument("--splits", type=existing_file, metavar="MAT", help="splits.mat")
    parser.add_argument(
        "--depths",
        choices=["raw", "filled"],
        default="raw",
        help="depths of the labelled frames (default: raw, as in BTS)",
    )
    parser.add_argument("--keep-border", action="store_true", help="keep the white border of the labelled frames")
    parser.add_argument("--check", action="store_true", help="compare the folder with the sources and write nothing")
    args = parser.parse_args()
    if (args.labelled is None) != (args.splits is None):
        parser.error("give both --labelled and --splits")
    if not (args.train or args.test or args.labelled):
        parser.error("give a source: --train, --test or --labelled")
    for split in ("train", "test"):
        if getattr(args, f"{split}_list") and not getattr(args, split):
            parser.error(f"--{split}-list needs --{split}")
    return args


def converted(args: Namespace, split: Split) -> Converted | None:
    archive, listed = (args.train, args.train_list) if split == "train" else (args.test, args.test_list)
    if archive is not None:
        return convert_archive(archive, split, args.target, listed, args.check)
    if args.labelled is None:
        return None
    return convert_labelled(
        args.labelled, args.splits, split, args.target, args.depths, not args.keep_border, args.check
    )


def main(args: Namespace) -> int:
    problems = False
    splits: tuple[Split, Split] = ("train", "test")
    for split in splits:
        result = converted(args, split)
        if result is None:
            continue
        print(format_summary(f"NYU Depth V2 ({split})", args.target, result.counts, result.problems, args.check))
        problems |= bool(result.problems)
        if not result.problems:
            # Read the set as a run will. It logs a warning itself if the number of pairs is not the official one.
            images = NYUDepth(str(args.target), split)
            if not images.differences:
                print(images.describe())
    return int(problems)


if __name__ == "__main__":
    run(main, parse_args())
