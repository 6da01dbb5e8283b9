"""``python -m proteus VERB``: the command ``proteus``, where no script is installed."""

from proteus.cli import main

if __name__ == "__main__":
    main()
