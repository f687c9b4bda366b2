"""Sphinx configuration. The build runs no notebook, reaches no server, and treats every warning as an error."""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from pathlib import Path

import sphinx_autosummary_accessors

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import thumbnails  # noqa: E402

import xr_rsembed  # noqa: E402

project = "xr-rsembed"
author = "the xr-rsembed developers"
copyright = author
version = release = xr_rsembed.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_autosummary_accessors",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "from_code",
]

# Links into the pages of the libraries underneath, where their inventories lie in docs/inventories (xarray.inv is
# https://docs.xarray.dev/en/stable/objects.inv) or, with DOCS_ONLINE=1, where the network gives them; without either
# the names stay plain text.
LIBRARIES = {
    "python": "https://docs.python.org/3",
    "numpy": "https://numpy.org/doc/stable",
    "xarray": "https://docs.xarray.dev/en/stable",
    "dask": "https://docs.dask.org/en/stable",
    "geopandas": "https://geopandas.org/en/stable",
    "odc.geo": "https://odc-geo.readthedocs.io/en/latest",
}
inventories = {name: HERE / "inventories" / f"{name}.inv" for name in LIBRARIES}
online = bool(os.environ.get("DOCS_ONLINE"))
extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {
    name: (address, None if online else str(inventories[name]))
    for name, address in LIBRARIES.items()
    if online or inventories[name].exists()
}

# Pages of names that are public no more would stand in no table of contents.
shutil.rmtree(HERE / "api" / "generated", ignore_errors=True)

# The notebooks live beside the docs, executed and with their outputs; the build reads copies.
NOTEBOOKS = HERE.parent / "notebooks"
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
shutil.copytree(
    NOTEBOOKS,
    HERE / "notebooks",
    dirs_exist_ok=True,
    ignore=lambda _, names: [n for n in names if not n.endswith(".ipynb")],
)
thumbnails.make(HERE)
nb_execution_mode = "off"
nb_merge_streams = True

source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
templates_path = ["_templates", sphinx_autosummary_accessors.templates_path]
myst_enable_extensions = ["colon_fence", "deflist", "attrs_block", "attrs_inline"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]  # a notebook's widget state has no place on a page

autosummary_generate = True
autodoc_typehints = "none"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

copybutton_prompt_text = r">>> |\.\.\. |\$ |In \[\d*\]: "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = "xr-rsembed"
html_static_path = ["_static"]
html_logo = html_favicon = "_static/logo.svg"
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "xr-rsembed"},
    "header_links_before_dropdown": 7,
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-light",
    "pygments_dark_style": "a11y-dark",
}
urls = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"].get("urls", {})
if "Repository" in urls:
    html_theme_options["icon_links"] = [
        {"name": "Repository", "url": urls["Repository"], "icon": "fa-solid fa-code-branch"}
    ]
html_sidebars = {name: [] for name in ("index", "install", "quickstart", "notebooks")}
