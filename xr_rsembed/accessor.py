"""The face ``.rsembed`` of DataArrays: names and signatures, no logic."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xr_rsembed import api

__all__ = ["DataArrayRsEmbed"]


@xr.register_dataarray_accessor("rsembed")
class DataArrayRsEmbed:
    """Embed a scene, and work with an embedding; see the functions of the same names."""

    def __init__(self, obj: xr.DataArray) -> None:
        self._obj = obj

    def embed(self, model: str = "terramind", **settings: Any) -> xr.DataArray:
        """Embed this scene; see :func:`xr_rsembed.embed` for all settings."""
        return api.embed(self._obj, model, **settings)

    def validate(self, model: str = "terramind", **settings: Any) -> None:
        """Raise unless this scene is an input of the model."""
        api.validate(self._obj, model, **settings)

    def to_bands(self, model: str = "terramind", **settings: Any) -> xr.DataArray:
        """The model's bands of this scene, in the model's order."""
        return api.to_bands(self._obj, model, **settings)

    def normalize(self, model: str = "terramind", **settings: Any) -> xr.DataArray:
        """This scene as the model sees it."""
        return api.normalize(self._obj, model, **settings)
