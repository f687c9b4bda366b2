"""Satellite scenes in xarray to foundation-model embeddings in xarray: labelled, lazy, georeferenced.

Importing this package gives every DataArray and Dataset the accessor ``.rsembed``. It imports neither torch nor any
provider; those load with the first call that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xr_rsembed import accessor as _accessor  # noqa: F401  (registers .rsembed)
from xr_rsembed import api as _api
from xr_rsembed import datasets, explore
from xr_rsembed._version import __version__
from xr_rsembed.api import (
    align,
    count_missing,
    describe_model,
    embed,
    list_models,
    open_scene,
    reproduce,
    s1_scale,
)
from xr_rsembed.config import get_option, set_options
from xr_rsembed.errors import RsEmbedError, RsEmbedWarning
from xr_rsembed.specs import BBox, OutputSpec, PointBuffer, SensorSpec, TemporalSpec

if TYPE_CHECKING:
    from xr_rsembed.engine.generate import generate
    from xr_rsembed.explore.cosine import change
    from xr_rsembed.places import get_embedding, get_embeddings_batch
    from xr_rsembed.providers.fetch import fetch
    from xr_rsembed.store.export import save
    from xr_rsembed.store.stac import open_embedding as open
    from xr_rsembed.store.stac import to_stac_item

__all__ = [
    "BBox",
    "OutputSpec",
    "PointBuffer",
    "RsEmbedError",
    "RsEmbedWarning",
    "SensorSpec",
    "TemporalSpec",
    "__version__",
    "align",
    "change",
    "count_missing",
    "datasets",
    "describe_model",
    "embed",
    "explore",
    "fetch",
    "generate",
    "get_embedding",
    "get_embeddings_batch",
    "get_option",
    "list_models",
    "open",
    "open_scene",
    "reproduce",
    "s1_scale",
    "save",
    "set_options",
    "to_stac_item",
]


def __getattr__(name: str) -> Any:
    """The names above that load with their first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_api, name)


def __dir__() -> list[str]:
    return __all__
