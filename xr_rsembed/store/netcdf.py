"""Embeddings as NetCDF4 files."""

from __future__ import annotations

import json
import os
from typing import Any

import dask
import xarray as xr

from xr_rsembed.store.conventions import plain
from xr_rsembed.store.files import ATTRS, settled, whole_file
from xr_rsembed.store.metadata import as_dataset

__all__ = ["open_netcdf", "to_netcdf"]


def to_netcdf(
    emb: xr.DataArray, path: str | os.PathLike[str], *, overwrite: bool = False, progress: bool | None = None
) -> xr.DataArray:
    """Write an embedding to a NetCDF4 file, with CF grid mapping.

    Parameters
    ----------
    emb : DataArray
        Of any dims, lazy or not.
    path : path
    overwrite : bool
        Replace a file that is there, once the new one is whole.
    progress : bool, optional
        Show a bar; by default in a terminal or notebook.

    Returns
    -------
    DataArray
        The stored embedding, opened lazily.

    Raises
    ------
    StoreExistsError
        If the file is there already.
    """
    with whole_file(path, overwrite) as (part, folder):
        values = settled(emb, folder, progress)
        dataset = as_dataset(values)
        (name,) = dataset.data_vars
        attrs = dataset[name].attrs
        dataset[name].attrs = {key: value for key, value in attrs.items() if _fits_netcdf(value)}
        dataset[name].attrs[ATTRS] = json.dumps(attrs)
        chunks = tuple(min(size, 64 if dim == "D" else 28) for dim, size in dataset[name].sizes.items())
        dataset[name].encoding |= {"zlib": True, "complevel": 1, "shuffle": True, "chunksizes": chunks}
        # Only this process has the file, so no cluster is asked.
        with dask.config.set(scheduler="threads"):
            dataset.to_netcdf(part, engine="h5netcdf")
    return open_netcdf(os.fspath(path))


def open_netcdf(path: str) -> xr.DataArray:
    """Open an embedding in a NetCDF file, lazily."""
    dataset = xr.open_dataset(path, engine="h5netcdf", chunks={}, decode_coords="all")
    if len(dataset.data_vars) != 1:
        raise ValueError(f"it holds {len(dataset.data_vars)} variables, not one embedding")
    (name,) = dataset.data_vars
    array = dataset[name]
    array.attrs = json.loads(array.attrs[ATTRS]) if ATTRS in array.attrs else plain(array.attrs)
    return array


def _fits_netcdf(value: Any) -> bool:
    kinds = {type(item) for item in value} if isinstance(value, list) else {type(value)}
    return kinds <= {int, float} or kinds == {str}
