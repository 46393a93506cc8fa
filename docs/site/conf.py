"""How Sphinx makes the site of docs/ (`make docs`). `build.py` writes the sources that it reads."""

from typing import Any

from mimic_eval import __version__

project = "mimic-eval"
version = release = __version__
copyright = "the mimic-eval authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]

suppress_warnings = ["misc.highlighting_failure"]  # examples with ... are no errors

html_theme = "furo"
html_title = f"mimic-eval {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}

myst_heading_anchors = 4  # the anchors of GitHub, so that links work on both

default_role = "literal"  # our docstrings have Markdown's single backticks
napoleon_use_ivar = True
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
html_show_search_summary = False  # it would be fetched, which browsers refuse for files


def _skips(app: Any, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples, which their class explains."""
    return True if str(getattr(member, "__doc__", "")).startswith("Alias for field number") else None


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-skip-member", _skips)
