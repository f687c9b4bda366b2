"""The face ``.rsembed`` of DataArrays and Datasets: names and signatures, no logic."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xarray as xr

from xr_rsembed import api, explore
from xr_rsembed.models.spec import Encoder, ModelSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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

    def _repr_html_(self) -> str:
        return api.provenance_html(self._obj)

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

    def similarity(self, query: Any, **options: Any) -> xr.DataArray:
        """Cosine similarity of every cell to a place or vector; see :func:`xr_rsembed.explore.similarity`."""
        return explore.similarity(self._obj, query, **options)

    def nearest(self, query: Any, k: int = 10, **options: Any) -> Any:
        """The cells most like a place or vector; see :func:`xr_rsembed.explore.nearest`."""
        return explore.nearest(self._obj, query, k, **options)

    def change(self, other: xr.DataArray) -> xr.DataArray:
        """How far each cell moved between two embeddings; see :func:`xr_rsembed.change`."""
        return explore.change(self._obj, other)

    def pca(self, n: int = 3, **options: Any) -> xr.DataArray:
        """Principal components; see :func:`xr_rsembed.explore.pca`."""
        return explore.pca(self._obj, n, **options)

    def cluster(self, k: int = 8, **options: Any) -> xr.DataArray:
        """A map of k clusters; see :func:`xr_rsembed.explore.cluster`."""
        return explore.cluster(self._obj, k, **options)

    def classify(self, labels: Any, column: str = "class", **options: Any) -> xr.Dataset:
        """A map of classes learnt from labels; see :func:`xr_rsembed.explore.classify`."""
        return explore.classify(self._obj, labels, column, **options)

    def regress(self, labels: Any, column: str, **options: Any) -> xr.DataArray:
        """A map of a quantity learnt from labels; see :func:`xr_rsembed.explore.regress`."""
        return explore.regress(self._obj, labels, column, **options)

    def sample(self, points: Any, **options: Any) -> xr.DataArray:
        """Vectors at points; see :func:`xr_rsembed.explore.sample`."""
        return explore.sample(self._obj, points, **options)

    def zonal(self, polygons: Any, stat: str = "mean", **options: Any) -> xr.DataArray:
        """Vectors of polygons; see :func:`xr_rsembed.explore.zonal`."""
        return explore.zonal(self._obj, polygons, stat, **options)

    def to_geoparquet(self, path: Path, **options: Any) -> Any:
        """Write the cells as a GeoParquet table; see :func:`xr_rsembed.explore.to_geoparquet`."""
        return explore.to_geoparquet(self._obj, path, **options)

    def plot_rgb(self, ax: Axes | None = None, **options: Any) -> Axes:
        """The first three principal components as a picture; see :func:`xr_rsembed.explore.plots.plot_rgb`."""
        return api.plot_rgb(self._obj, ax, **options)

    def plot_similarity(self, ax: Axes | None = None, **options: Any) -> Axes:
        """This similarity as a map; see :func:`xr_rsembed.explore.plots.plot_similarity`."""
        return api.plot_similarity(self._obj, ax, **options)

    def plot_scene(self, ax: Axes | None = None, **options: Any) -> Axes:
        """This scene as a picture; see :func:`xr_rsembed.explore.plots.plot_scene`."""
        return api.plot_scene(self._obj, ax, **options)

    def explore(self, scene: xr.DataArray | None = None, **options: Any) -> Any:
        """This embedding as a map to click on; see :func:`xr_rsembed.explore.app.explore`."""
        return api.explorer(self._obj, scene, **options)


@xr.register_dataset_accessor("rsembed")
class DatasetRsEmbed(_Both):
    """Embed several modalities together; see the functions of the same names."""

    _obj: xr.Dataset

    def align(self, like: Any = None, **settings: Any) -> xr.Dataset:
        """Reproject these scenes onto another grid; see :func:`xr_rsembed.align`."""
        return api.align(self._obj, like, **settings)
