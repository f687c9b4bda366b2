"""The metadata of a store: an embedding's labels made fit for a file, and the Zarr group they are written to."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xr_rsembed.errors import StoreError
from xr_rsembed.store.conventions import plain, scrubbed
from xr_rsembed.store.layout import Layout, encoding
from xr_rsembed.store.place import Place

__all__ = ["as_dataset", "write_metadata"]


def as_dataset(emb: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """An embedding ready to be stored: coords in memory, plain attrs, no credentials, no encodings of former files.

    Raises
    ------
    StoreError
        If there is nothing to store, or a name cannot be a folder's.
    """
    if not isinstance(emb, xr.DataArray | xr.Dataset):
        raise StoreError(
            "Only a labelled embedding can be stored.",
            found=type(emb).__name__,
            expected="DataArray or Dataset",
        )
    dataset = emb.to_dataset(name=emb.name or "embedding") if isinstance(emb, xr.DataArray) else emb
    if not dataset.data_vars:
        raise StoreError(
            "There is nothing to store.", found="a Dataset without variables", expected="an embedding"
        )
    for name in dataset.variables:
        text = str(name)
        if not text or text.startswith((".", "_")) or set(text) & set("/\\@"):
            raise StoreError(
                "A variable's name cannot be the name of a folder.",
                found=repr(name),
                expected="such as 'embedding'",
            )
    mapping = {name: _grid_mapping(dataset[name]) for name in dataset.data_vars}
    ready = dataset.assign_coords(
        {name: _ready(coord) for name, coord in dataset.coords.items()}
    ).drop_encoding()
    ready.attrs = plain(scrubbed(dataset.attrs))
    for name, crs in mapping.items():
        attrs = {key: value for key, value in dataset[name].attrs.items() if key != "grid_mapping"}
        ready[name].attrs = plain(scrubbed(attrs))
        if crs is not None:
            ready[name].encoding["grid_mapping"] = crs
    return ready


def write_metadata(
    place: Place,
    dataset: xr.Dataset,
    layouts: Sequence[Layout],
    attrs: Mapping[str, Any],
) -> None:
    """Write a group's metadata and coords; consolidated, so that the store reads while its shards are written."""
    arrays: dict[str, Any] = {layout.name: _placeholder(dataset[layout.name], layout) for layout in layouts}
    for layout in layouts:
        if len(layout.scale) > 1:
            arrays[f"{layout.name}_scale"] = ("D", np.asarray(layout.scale, dtype="float32"))
    coords = {name: _writable(coord) for name, coord in dataset.coords.items()}
    template = xr.Dataset(arrays, coords=coords, attrs=dataset.attrs | dict(attrs))
    with warnings.catch_warnings():
        # Zarr says that consolidated metadata and strings are not in the v3 core yet; xarray reads and writes both.
        warnings.simplefilter("ignore")
        template.to_zarr(place.url, mode="a", zarr_format=3, consolidated=True, compute=False)


def _grid_mapping(array: xr.DataArray) -> str | None:
    name = array.encoding.get("grid_mapping") or array.attrs.get("grid_mapping") or "spatial_ref"
    return str(name) if name in array.coords else None


def _ready(coord: xr.DataArray) -> xr.DataArray:
    loaded = coord.compute()
    loaded.attrs = plain(scrubbed(loaded.attrs))
    if loaded.dtype.kind in "OU":
        return loaded.copy(data=np.vectorize(scrubbed, otypes=[object])(loaded.values))
    return loaded


def _placeholder(array: xr.DataArray, layout: Layout) -> xr.Variable:
    """A variable that costs nothing and whose metadata is the array's."""
    dtype = array.dtype if layout.scale else layout.dtype
    zeros = da.zeros(layout.shape, chunks=layout.shard, dtype=dtype)
    names = [str(name) for name, coord in array.coords.items() if name not in array.dims]
    mapping = {"grid_mapping": array.encoding["grid_mapping"]} if "grid_mapping" in array.encoding else {}
    # Listed by hand: xarray leaves the CRS out of the list where grid_mapping names it, and then reads it as data.
    listed = {"coordinates": " ".join(names)} if names else {}
    return xr.Variable(layout.dims, zeros, array.attrs, encoding(layout) | mapping | listed)


def _writable(coord: xr.DataArray) -> xr.Variable:
    variable = coord.variable.to_base_variable()
    # Zarr v3 knows strings of free length only.
    return variable.astype(object) if variable.dtype.kind == "U" else variable
