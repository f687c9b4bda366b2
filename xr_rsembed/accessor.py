"""The face ``.rsembed`` of DataArrays and Datasets: names and signatures, no logic."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import xarray as xr

from xr_rsembed import api
from xr_rsembed.models.spec import Encoder, ModelSpec

__all__ = ["DataArrayRsEmbed", "DatasetRsEmbed"]

Model = str | ModelSpec | Encoder
Path = str | os.PathLike[str]


class _Both:
    """What a DataArray and a Dataset share."""

    def __init__(self, obj: Any) -> None:
        self._obj = obj

    def embed(self, model: Model = "terramind", **settings: Any) -> Any:
        """Embed this scene, or these modalities together; see :func:`xr_rsembed.embed` for all settings."""
        return api.embed(self._obj, model, **settings)

    def validate(self, model: Model = "terramind", **settings: Any) -> None:
        """Raise unless this is an input of the model; see :func:`xr_rsembed.api.validate`."""
        api.validate(self._obj, model, **settings)

    def generate(self, outputs: Sequence[str], model: str = "terramind", **settings: Any) -> xr.Dataset:
        """Let TerraMind imagine other modalities; see :func:`xr_rsembed.generate`."""
        return api.generate(self._obj, outputs, model, **settings)

    def to_zarr(self, path: Path, **options: Any) -> Any:
        """Write this embedding to a Zarr store, resumably; see :func:`xr_rsembed.store.zarr.to_zarr`."""
        return api.to_zarr(self._obj, path, **options)


@xr.register_dataarray_accessor("rsembed")
class DataArrayRsEmbed(_Both):
    """Embed a scene, and work with an embedding; see the functions of the same names."""

    _obj: xr.DataArray

    def to_bands(self, model: Model = "terramind", **settings: Any) -> xr.DataArray:
        """The model's bands of this scene, in the model's order; see :func:`xr_rsembed.api.to_bands`."""
        return api.to_bands(self._obj, model, **settings)

    def normalize(self, model: Model = "terramind", **settings: Any) -> xr.DataArray:
        """This scene as the model sees it; see :func:`xr_rsembed.api.normalize`."""
        return api.normalize(self._obj, model, **settings)

    def save(self, path: Path, **options: Any) -> xr.DataArray:
        """Write this embedding as the path's suffix says; see :func:`xr_rsembed.save`."""
        return api.save(self._obj, path, **options)

    def to_netcdf(self, path: Path, **options: Any) -> xr.DataArray:
        """Write this embedding to a NetCDF file; see :func:`xr_rsembed.store.netcdf.to_netcdf`."""
        return api.to_netcdf(self._obj, path, **options)

    def to_cog(self, path: Path, **options: Any) -> xr.DataArray:
        """Write this embedding to a Cloud-Optimized GeoTIFF; see :func:`xr_rsembed.store.cog.to_cog`."""
        return api.to_cog(self._obj, path, **options)


@xr.register_dataset_accessor("rsembed")
class DatasetRsEmbed(_Both):
    """Embed several modalities together; see the functions of the same names."""

    _obj: xr.Dataset

    def align(self, like: Any = None, **settings: Any) -> xr.Dataset:
        """Reproject these scenes onto another grid; see :func:`xr_rsembed.align`."""
        return api.align(self._obj, like, **settings)
