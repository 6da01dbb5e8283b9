from importlib.metadata import version

import proteus


def test_what_pip_shows_is_what_the_package_says() -> None:
    """setup.py reads the line as text; the package imports it."""
    assert version("proteus-toolbox") == proteus.__version__
