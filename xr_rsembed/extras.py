"""Optional packages, imported where they are used; where one is missing, the error has the line that installs it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from xr_rsembed.errors import MissingDependencyError

#: The extra of pyproject.toml that an optional package comes with, by the name that it is imported by.
EXTRA_OF = {
    "bokeh": "explore",
    "distributed": "distributed",
    "ee": "gee",
    "exactextract": "vector",
    "geopandas": "vector",
    "panel": "explore",
    "planetary_computer": "stac",
    "pyarrow": "vector",
    "sklearn": "explore",
    "stac_geoparquet": "stac",
    "xvec": "vector",
}


def require(module: str, purpose: str) -> Any:
    """Import an optional module; where it is missing, the error begins with the purpose and says what installs it.

    >>> require("json", "A test").dumps([1])
    '[1]'
    >>> require("nowhere", "A test")
    Traceback (most recent call last):
    xr_rsembed.errors.MissingDependencyError: A test needs the package nowhere.
      found:    No module named 'nowhere'
      remedy:   pip install nowhere
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        extra = EXTRA_OF.get(package)
        raise MissingDependencyError(
            f"{purpose} needs the package {package}.",
            found=error,
            remedy=f"pip install 'xr-rsembed[{extra}]'" if extra else f"pip install {package}",
        ) from error
