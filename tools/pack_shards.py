#!/usr/bin/env python
"""Run ``proteus pack`` from a clone; see ``proteus/cli/pack.py``."""

from proteus.cli.pack import main, parse_args
from proteus.cli.run import run

if __name__ == "__main__":
    run(main, parse_args())
