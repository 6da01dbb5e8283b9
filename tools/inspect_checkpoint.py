#!/usr/bin/env python
"""Run ``proteus inspect`` from a clone; see ``proteus/cli/inspect.py``."""

from proteus.cli.inspect import main, parse_args
from proteus.cli.run import run

if __name__ == "__main__":
    run(main, parse_args())
