"""Settings of Sphinx, which makes HTML of these pages:

    pip install '.[docs]' -c constraints.txt && sphinx-build -W --keep-going docs /tmp/vit_jax_pages

The pages are plain Markdown, and can be read on GitHub, too. Nothing is downloaded.
"""

import re

import vit_jax

project = "vit_jax"
author = "The vit_jax authors"
version = release = vit_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = True  # a link to what there is not is a warning
myst_enable_extensions = ["html_image"]
myst_heading_anchors = 3  # headings have the anchors that they have on GitHub

html_theme = "furo"
html_title = "vit_jax"
html_show_sourcelink = False
html_show_copyright = False
highlight_language = "none"  # indented blocks are commands

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say shapes and units, which annotations do not
autodoc_preserve_defaults = True  # such as ROOT instead of the path on this machine
default_role = "code"  # docstrings have `names` in single backticks
napoleon_use_rtype = False

_OUTSIDE = re.compile(r"\]\(\.\./")
_REPOSITORY = "https://github.com/vit-jax/vit_jax/blob/main/"


def setup(app):
    app.connect("source-read", _read)
    app.connect("autodoc-process-docstring", _lists, priority=0)  # before napoleon


def _read(app, name, content):
    """Lets links to files of the repository that are no pages lead to GitHub, and gives the first page its contents."""
    text = _OUTSIDE.sub(f"]({_REPOSITORY}", content[0])
    if name == "index":
        pages = re.findall(r"\]\((\w+)\.md\)", text)
        text += "\n".join(["", "```{toctree}", ":hidden:", "", *pages, "```", ""])
    content[0] = text


def _lists(app, what, name, about, options, lines):
    """Puts an empty line before each list of a docstring, without which reStructuredText sees none."""
    for at in range(len(lines) - 1, 0, -1):
        before, line = lines[at - 1], lines[at]
        indent = len(line) - len(line.lstrip())
        if line.lstrip().startswith("- ") and before[indent : indent + 2] not in ("", "- ", "  "):
            lines.insert(at, "")
