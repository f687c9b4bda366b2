"""The metadata of a store: an embedding's labels made fit for a file, and the Zarr group they are written to."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
import zarr
from zarr.abc.store import Store

from xr_rsembed.errors import StoreError
from xr_rsembed.store.conventions import plain, scrubbed
from xr_rsembed.store.layout import KEYS, Layout, encoding

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
        {name: _ready(str(name), coord) for name, coord in dataset.coords.items()}
    ).drop_encoding()
    ready.attrs = plain(scrubbed(dataset.attrs))
    for name, crs in mapping.items():
        attrs = {key: value for key, value in dataset[name].attrs.items() if key != "grid_mapping"}
        ready[name].attrs = plain(scrubbed(attrs))
        if crs is not None:
            ready[name].encoding["grid_mapping"] = crs
    return ready


def write_metadata(
    store: Store,
    group: str,
    dataset: xr.Dataset,
    layouts: Sequence[Layout],
    attrs: Mapping[str, Any],
    way: int,
    *,
    append_dim: str | None = None,
) -> None:
    """Write a group's metadata and coords; consolidated, so that the store reads while its shards are written.

    With ``append_dim`` the arrays that are there grow by the dataset's.
    """
    arrays: dict[str, Any] = {
        layout.name: _placeholder(dataset[layout.name], layout, way, encoded=append_dim is None)
        for layout in layouts
    }
    for layout in layouts:
        if len(layout.scale) > 1 and append_dim is None:
            arrays[f"{layout.name}_scale"] = (
                "D",
                np.asarray(layout.scale, dtype="float32"),
                {},
                {"chunk_key_encoding": KEYS[way]},
            )
    coords = {name: _writable(coord, way) for name, coord in dataset.coords.items()}
    if append_dim is not None:
        coords = {name: coord.drop_encoding() for name, coord in coords.items() if append_dim in coord.dims}
    template = xr.Dataset(arrays, coords=coords, attrs=dataset.attrs | dict(attrs))
    with warnings.catch_warnings():
        # Zarr says that consolidated metadata and strings are not in the v3 core yet; xarray reads and writes both.
        warnings.simplefilter("ignore")
        template.to_zarr(
            store,
            group=group or None,
            mode="a",
            append_dim=append_dim,
            zarr_format=3,
            consolidated=store.supports_consolidated_metadata and not group,
            compute=False,
        )
        if group and store.supports_consolidated_metadata:
            # xarray would do so for the whole store, which runs on several groups would do over one another.
            zarr.consolidate_metadata(store, path=group, zarr_format=3)


def _grid_mapping(array: xr.DataArray) -> str | None:
    name = array.encoding.get("grid_mapping") or array.attrs.get("grid_mapping") or "spatial_ref"
    return str(name) if name in array.coords else None


def _ready(name: str, coord: xr.DataArray) -> xr.DataArray:
    """A coord that files can hold, or an error that names it."""
    if isinstance(coord.indexes.get(name), pd.MultiIndex):
        raise _unfit(name, "a MultiIndex", f'emb.reset_index("{coord.dims[0]}")')
    loaded = coord.compute()
    values = loaded.variable.to_base_variable().to_numpy()
    if values.dtype.kind == "O":
        values = _plain_values(name, values)
    elif values.dtype.kind == "U":
        values = np.vectorize(scrubbed, otypes=[object])(values) if values.size else values.astype(object)
    elif values.dtype.kind not in "biufcmMST":
        raise _unfit(name, f"dtype {values.dtype}", f'emb.drop_vars("{name}")')
    return xr.DataArray(values, dims=loaded.dims, attrs=plain(scrubbed(loaded.attrs)))


def _plain_values(name: str, values: np.ndarray) -> np.ndarray:
    """Objects as numbers, times (zoned ones in UTC) or text; lists, dicts and None as JSON."""
    items = list(values.flat)
    present = [item for item in items if item is not None and item is not pd.NaT]
    if present and all(isinstance(item, datetime | np.datetime64) for item in present):
        times = pd.to_datetime(items, utc=True).tz_localize(None).as_unit("ns").to_numpy()
        return times.reshape(values.shape)
    if present and all(isinstance(item, bool | np.bool_) for item in items):
        return values.astype(bool)
    if present and all(
        isinstance(item, int | float | np.number) and not isinstance(item, bool) for item in present
    ):
        if len(present) == len(items) and all(isinstance(item, int | np.integer) for item in items):
            return values.astype("int64")
        return np.asarray([np.nan if item is None else item for item in items], "float64").reshape(
            values.shape
        )
    texts = np.empty(values.shape, dtype=object)
    for place, item in zip(np.ndindex(*values.shape), items, strict=True):
        texts[place] = item if isinstance(item, str) else _as_json(name, item)
        texts[place] = scrubbed(texts[place])
    return texts


def _as_json(name: str, item: Any) -> str:
    try:
        return json.dumps(item.item() if isinstance(item, np.generic) else item)
    except (TypeError, ValueError):
        remedy = f'emb.drop_vars("{name}")'
        if isinstance(item, pd.Period):
            remedy = f'emb.assign_coords({name}=emb.indexes["{name}"].to_timestamp())'
        raise _unfit(name, f"a {type(item).__name__}: {str(item)[:60]}", remedy) from None


def _unfit(name: str, found: str, remedy: str) -> StoreError:
    return StoreError(
        f"The coord {name!r} cannot be stored.",
        found=found,
        expected="numbers, texts, times, or what JSON holds",
        remedy=remedy,
    )


def _placeholder(array: xr.DataArray, layout: Layout, way: int, *, encoded: bool) -> xr.Variable:
    """A variable that costs nothing and whose metadata is the array's."""
    dtype = array.dtype if layout.scale else layout.dtype
    shape = [array.sizes[dim] for dim in layout.dims]
    zeros = da.zeros(shape, chunks=layout.shard, dtype=dtype)
    if not encoded:
        return xr.Variable(layout.dims, zeros)
    names = [str(name) for name, coord in array.coords.items() if name not in array.dims]
    mapping = {"grid_mapping": array.encoding["grid_mapping"]} if "grid_mapping" in array.encoding else {}
    # Listed by hand: xarray leaves the CRS out of the list where grid_mapping names it, and then reads it as data.
    listed = {"coordinates": " ".join(names)} if names else {}
    return xr.Variable(layout.dims, zeros, array.attrs, encoding(layout, way) | mapping | listed)


def _writable(coord: xr.DataArray, way: int) -> xr.Variable:
    variable = coord.variable.to_base_variable()
    # Zarr v3 knows strings of free length only.
    variable = variable.astype(object) if variable.dtype.kind == "U" else variable
    variable.encoding = {"chunk_key_encoding": KEYS[way]}
    if variable.dtype.kind == "M":  # fine enough for the dates that are appended later
        variable.encoding |= {"units": "microseconds since 1970-01-01", "dtype": "int64"}
    if variable.ndim:
        variable.encoding["chunks"] = variable.shape  # one object, so that a coord is never half there
    return variable
