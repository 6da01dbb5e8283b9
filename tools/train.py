#!/usr/bin/env python
"""Run ``proteus train`` from a clone; see ``proteus/cli/train.py``."""

from proteus.cli.run import run
from proteus.cli.train import main, parse_args

if __name__ == "__main__":
    run(main, parse_args())
