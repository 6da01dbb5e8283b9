from importlib.metadata import version

import proteus


def test_pip_shows_the_version_of_the_package() -> None:
    """setup.py reads the line as text; the package imports it."""
    assert version("proteus-toolbox") == proteus.__version__
