"""Satellite scenes in xarray to foundation-model embeddings in xarray: labelled, lazy, georeferenced.

Importing this package gives every DataArray and Dataset the accessor ``.rsembed``. It imports neither torch nor any
provider; those load with the first call that needs them.
"""

from __future__ import annotations

from xr_rsembed import accessor as _accessor  # noqa: F401  (registers .rsembed)
from xr_rsembed import datasets
from xr_rsembed._version import __version__
from xr_rsembed.api import align, describe_model, embed, list_models, reproduce, s1_scale
from xr_rsembed.config import get_option, set_options
from xr_rsembed.errors import RsEmbedError, RsEmbedWarning

__all__ = [
    "RsEmbedError",
    "RsEmbedWarning",
    "__version__",
    "align",
    "datasets",
    "describe_model",
    "embed",
    "get_option",
    "list_models",
    "reproduce",
    "s1_scale",
    "set_options",
]
