"""How Sphinx builds these pages: sphinx-build -W docs site."""

import inspect
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

import rnnjax

project = "rnnjax"
copyright = "the rnnjax authors, Apache-2.0"
version = release = rnnjax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3
# The docstrings write code in single backticks as well as in double ones.
default_role = "literal"
autodoc_typehints = "none"
napoleon_use_rtype = False
# Parameters are those that are learnt, told in prose like variables.
napoleon_custom_sections = [
    ("Attributes", "params_style"),
    ("Args", "params_style"),
    "Parameters",
    "Variables",
    "Source",
]

html_theme = "furo"
html_title = "rnnjax"
html_copy_source = False
html_math_renderer = "mathml"


def visit_math(translator, node):
    """Write a formula as MathML, which browsers draw without a script of others."""
    translator.body.append(convert(node.astext()))
    raise SkipNode


def visit_displayed_math(translator, node):
    """The same for a formula on a line of its own."""
    translator.body.append(convert(node.astext(), display="block"))
    raise SkipNode


def without_flax(app, what, name, thing, options, signature, returned):
    """Leave out of a signature what every Flax module has."""
    if what != "class" or not hasattr(thing, "__dataclass_fields__"):
        return None
    whole = inspect.signature(thing)
    own = [p for p in whole.parameters.values() if p.name not in ("parent", "name")]
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in own]
    return str(inspect.Signature(bare)), None


def with_measurements(app, page, source):
    """Let the page on reliability end with what the campaign found, once it has run."""
    if page == "reliability" and (Path(app.srcdir).parent / "RELIABILITY.md").exists():
        source[0] += "\n```{include} ../RELIABILITY.md\n:heading-offset: 1\n```\n"


def setup(app):
    """Register these with Sphinx."""
    app.add_html_math_renderer(
        "mathml", (visit_math, None), (visit_displayed_math, None)
    )
    app.connect("autodoc-process-signature", without_flax)
    app.connect("source-read", with_measurements)
