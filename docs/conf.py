"""Settings of the site: Sphinx, which reads Markdown and notebooks by MyST-NB, with the theme Furo.

`make docs` builds it with warnings as errors. Nothing is loaded from the network, neither while it is built
nor while it is read.
"""

from __future__ import annotations

import sys
from pathlib import Path
from pydoc import locate
from typing import Any

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import generate  # the pages that are made of the code

import alterrec

project = "alterrec"
author = "the alterrec contributors"
copyright = "the alterrec contributors, MIT OR Apache-2.0"
version = release = alterrec.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [("py:class", ".*")]  # types of attributes, which are not pages of this site

html_theme = "furo"
html_title = "alterrec"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["schemas"]
html_show_sphinx = False
html_copy_source = False

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4
# README.md, CONTRIBUTING.md and CHANGELOG.md are read on the repository's pages, and included in the site.
myst_links_external_new_tab = False

nb_execution_mode = "force"  # a cache would not notice changes of the package
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 600  # for a busy machine; a tutorial takes less than 20 seconds on a free one
nb_execution_show_tb = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
nb_merge_streams = True
nb_output_stderr = "remove"

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True


def internal_name(app: Sphinx, env: Any, node: Any, contnode: Any) -> Any:
    """Show a reference to an existing name without an entry as code, so that only wrong ones are warnings."""
    if node.get("refdomain") == "py" and locate(node["reftarget"]) is not None:
        return contnode
    return None


def without_aliases(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which the docstring of the class describes."""
    return True if (getattr(member, "__doc__", "") or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    """Write the generated pages before Sphinx looks for pages."""
    app.connect("config-inited", lambda app, config: generate.write_pages(Path(app.srcdir)))
    app.connect("missing-reference", internal_name)
    app.connect("autodoc-skip-member", without_aliases)
