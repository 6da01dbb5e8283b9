#!/usr/bin/env python
"""Put NYU Depth V2 together as the Monocular-Depth-Estimation-Toolbox has it; call it again to go on.

Training: BTS's 24,231 pairs with --train sync.zip. Testing: the 654 official frames with --labelled
nyu_depth_v2_labeled.mat --splits splits.mat, or with --test an archive that has them as BTS prepares it. Without
--train, the labelled files give their own 795 training frames.
"""

from argparse import Namespace, RawDescriptionHelpFormatter

from proteus.apis.cli import ToolParser, existing_file, out_folder, run
from proteus.datasets import NYUDepth
from proteus.datasets.converters.nyu_archive import convert_archive
from proteus.datasets.converters.nyu_labelled import convert_labelled
from proteus.datasets.converters.nyu_split import Converted, Split
from proteus.datasets.converters.summary import told


def parse_args() -> Namespace:
    parser = ToolParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("target", type=out_folder, help="folder to write to: a config's data_root")
    parser.add_argument("--train", type=existing_file, metavar="ZIP", help="archive of the training pairs")
    parser.add_argument("--test", type=existing_file, metavar="ZIP", help="archive of the test pairs; may be the same")
    parser.add_argument(
        "--train-list", type=existing_file, metavar="TXT", help="which pairs (default: a list in the archive)"
    )
    parser.add_argument("--test-list", type=existing_file, metavar="TXT", help="likewise")
    parser.add_argument("--labelled", type=existing_file, metavar="MAT", help="nyu_depth_v2_labeled.mat")
    parser.add_argument("--splits", type=existing_file, metavar="MAT", help="splits.mat")
    parser.add_argument(
        "--depths", choices=["raw", "filled"], default="raw", help="of the labelled frames (default: raw, as BTS tests)"
    )
    parser.add_argument("--keep-border", action="store_true", help="do not blacken the labelled frames' white border")
    parser.add_argument("--check", action="store_true", help="compare with the sources, and write nothing")
    args = parser.parse_args()
    if (args.labelled is None) != (args.splits is None):
        parser.error("--labelled and --splits belong together")
    if not (args.train or args.test or args.labelled):
        parser.error("name a source: --train, --test or --labelled")
    for split in ("train", "test"):
        if getattr(args, f"{split}_list") and not getattr(args, split):
            parser.error(f"--{split}-list belongs to --{split}")
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
        print(told(f"NYU Depth V2 ({split})", args.target, result.done, result.problems, args.check))
        problems |= bool(result.problems)
        if not result.problems:
            # Reads it as a run will; where the number of pairs is not the official one, the set logs that itself.
            images = NYUDepth(str(args.target), split)
            if not images.deviation:
                print(images.describe())
    return int(problems)


if __name__ == "__main__":
    run(main, parse_args())
