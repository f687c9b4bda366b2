"""The face ``.rsembed`` of DataArrays: names and signatures, no logic."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xr_rsembed import api
from xr_rsembed.models.spec import Encoder, ModelSpec

__all__ = ["DataArrayRsEmbed", "DatasetRsEmbed"]

Model = str | ModelSpec | Encoder


@xr.register_dataarray_accessor("rsembed")
class DataArrayRsEmbed:
    """Embed a scene, and work with an embedding; see the functions of the same names."""

    def __init__(self, obj: xr.DataArray) -> None:
        self._obj = obj

    def embed(self, model: Model = "terramind", **settings: Any) -> xr.DataArray:
        """Embed this scene; see :func:`xr_rsembed.embed` for all settings."""
        return api.embed(self._obj, model, **settings)

    def validate(self, model: Model = "terramind", **settings: Any) -> None:
        """Raise unless this scene is an input of the model."""
        api.validate(self._obj, model, **settings)

    def to_bands(self, model: Model = "terramind", **settings: Any) -> xr.DataArray:
        """The model's bands of this scene, in the model's order."""
        return api.to_bands(self._obj, model, **settings)

    def normalize(self, model: Model = "terramind", **settings: Any) -> xr.DataArray:
        """This scene as the model sees it."""
        return api.normalize(self._obj, model, **settings)


@xr.register_dataset_accessor("rsembed")
class DatasetRsEmbed:
    """Embed several modalities together; see the functions of the same names."""

    def __init__(self, obj: xr.Dataset) -> None:
        self._obj = obj

    def embed(self, model: Model = "terramind", **settings: Any) -> Any:
        """Embed these modalities together; see :func:`xr_rsembed.embed` for all settings."""
        return api.embed(self._obj, model, **settings)

    def validate(self, model: Model = "terramind", **settings: Any) -> None:
        """Raise unless these modalities are an input of the model."""
        api.validate(self._obj, model, **settings)

    def align(self, like: Any = None, **settings: Any) -> xr.Dataset:
        """Reproject these scenes onto another grid; see :func:`xr_rsembed.align`."""
        return api.align(self._obj, like, **settings)
