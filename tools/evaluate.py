#!/usr/bin/env python
"""Run ``proteus evaluate`` from a clone; see ``proteus/cli/evaluate.py``."""

from proteus.cli.evaluate import main, parse_args
from proteus.cli.run import run

if __name__ == "__main__":
    run(main, parse_args())
