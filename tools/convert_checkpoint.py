#!/usr/bin/env python
"""Run ``proteus convert`` from a clone; see ``proteus/cli/convert.py``."""

from proteus.cli.convert import main, parse_args
from proteus.cli.run import run

if __name__ == "__main__":
    run(main, parse_args())
