#!/usr/bin/env python
"""Run ``proteus cache`` from a clone; see ``proteus/cli/cache.py``."""

from proteus.cli.cache import main, parse_args
from proteus.cli.run import run

if __name__ == "__main__":
    run(main, parse_args())
