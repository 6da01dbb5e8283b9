#!/usr/bin/env python
"""Run ``proteus test`` from a clone; see ``proteus/cli/test.py``."""

from proteus.cli.run import run
from proteus.cli.test import main, parse_args

if __name__ == "__main__":
    run(main, parse_args())
