"""Sphinx settings: ``make docs`` builds the site, with API pages from the docstrings and warnings as errors."""

import re
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules, walk_packages

from sphinx.application import Sphinx

import proteus
import proteus.apis.evaluate  # imports every package, before a page is made of it

ROOT = Path(__file__).resolve().parents[1]
API = ROOT / "docs/api"

project = "Proteus"
author = copyright = "The Proteus toolbox contributors"
version = release = proteus.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# The root of the sources is the checkout, so that a link from a page to a README works here and in the repository.
root_doc = "docs/index"
include_patterns = ["docs/**", "CONTRIBUTING.md", "benchmarks/README.md", "*/*/README.md"]
exclude_patterns = ["docs/_build", "data", "work_dirs", "checkpoints", ".venv", ".git"]

html_theme = "furo"
templates_path = ["_templates"]
html_additional_pages = {"index": "redirect.html"}
html_title = f"Proteus {version}"
html_show_sourcelink = html_copy_source = False

myst_heading_anchors = 3  # links to headings, as GitHub names them
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def write_api_pages(app: Sphinx) -> None:
    """Write one page per package: the names that it exports or, if it exports none, a list of its modules."""
    packages = ["proteus", *(info.name for info in walk_packages(proteus.__path__, "proteus.") if info.ispkg)]
    API.mkdir(exist_ok=True)
    for package in packages:
        module = import_module(package)
        lines = [package, "=" * len(package), "", f".. automodule:: {package}", "   :members:", ""]
        if not getattr(module, "__all__", None):
            for info in iter_modules(module.__path__):
                text = (import_module(f"{package}.{info.name}").__doc__ or "").partition("\n")[0]
                lines += [] if info.ispkg else [f"- ``{package}.{info.name}``: {text}"]
            lines.append("")
        below = [name for name in packages if name.rpartition(".")[0] == package]
        lines += [".. toctree::", "   :maxdepth: 1", "", *(f"   {name}" for name in below), ""] if below else []
        (API / f"{package}.rst").write_text("\n".join(lines), encoding="utf-8")
    for page in API.glob("*.rst"):
        if page.stem not in packages:
            page.unlink()


def home(obj: object, name: str) -> str | None:
    """Return the innermost package that exports an object: the one page that documents it."""
    package = getattr(obj, "__module__", None) or ""
    while package := package.rpartition(".")[0]:
        if name in getattr(sys.modules.get(package), "__all__", ()):
            return package
    return None


def skip_elsewhere(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object) -> bool | None:
    """Skip a name that a package exports again from a package below it."""
    if what != "module" or home(obj, name) in (None, app.env.docname.removeprefix("docs/api/")):
        return None
    return True


def link_pages(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Turn references to pages in docstrings into links."""
    lines[:] = [re.sub(r"(?<!`)\bdocs/(\w+)\.md(#[\w-]+)?", r"`\g<0> <../\1.html\2>`__", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("builder-inited", write_api_pages)
    app.connect("autodoc-skip-member", skip_elsewhere)
    app.connect("autodoc-process-docstring", link_pages)
