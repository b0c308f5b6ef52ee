"""How the documentation is built: `make docs`."""

import re
from importlib.metadata import version as installed

from sphinx.application import Sphinx

project = "lading"
author = copyright = "the lading authors"
release = version = installed("lading")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

nitpicky = True
# No inventory of another project is fetched, so only lading's own names can be checked; type variables have no page.
nitpick_ignore_regex = [(r"py:.*", r"(?!lading\b).*"), (r"py:class", r"lading\.\w+\.(T|P|Item|File)")]

html_theme = "furo"
html_title = "lading"

_FENCE = re.compile(r"^```\w*\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(?<![`\w:])`([^`\n]+)`(?![`_])(?=(\w)?)")


def as_restructured_text(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings write code as Markdown does, where autodoc reads reStructuredText."""
    text = "\n".join(lines) + "\n"
    text = _FENCE.sub(lambda fence: "::\n\n" + re.sub(r"^", "    ", fence[1], flags=re.MULTILINE) + "\n", text)
    lines[:] = _CODE.sub(lambda code: f"``{code[1]}``" + ("\\ " if code[2] else ""), text).splitlines()


def setup(app: Sphinx) -> None:
    # before napoleon, which makes markup of its own
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)
