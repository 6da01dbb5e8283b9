#!/usr/bin/env python
"""Run ``proteus infer`` from a clone; see ``proteus/cli/infer.py``."""

from proteus.cli.infer import main, parse_args
from proteus.cli.run import run

if __name__ == "__main__":
    run(main, parse_args())
