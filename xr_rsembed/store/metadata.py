"""The metadata of a store: an embedding's labels made fit for a file, and the Zarr group they are written to."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
import zarr
from zarr.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from xr_rsembed.errors import StoreError
from xr_rsembed.store.block_record import create_records
from xr_rsembed.store.conventions import plain, scrubbed
from xr_rsembed.store.group import BLOCKS, Group
from xr_rsembed.store.layout import KEYS, Layout, encoding
from xr_rsembed.store.target import Target


def as_dataset(emb: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """An embedding ready to be stored: coords in memory, plain attrs, no credentials, no encodings of former files."""
    if not isinstance(emb, xr.DataArray | xr.Dataset) or (isinstance(emb, xr.Dataset) and not emb.data_vars):
        raise StoreError(
            "Only a labelled embedding can be stored.",
            found=f"{type(emb).__name__}{' without variables' if isinstance(emb, xr.Dataset) else ''}",
            expected="DataArray or Dataset",
        )
    dataset = emb.to_dataset(name=emb.name or "embedding") if isinstance(emb, xr.DataArray) else emb
    for name in dataset.variables:
        require_folder_name(name, "coord" if name in dataset.coords else "variable")
    coords = {name: _ready(str(name), coord) for name, coord in dataset.coords.items()}
    ready = dataset.assign_coords(coords).drop_encoding()
    ready.attrs = plain(scrubbed(dataset.attrs))
    for name, array in dataset.data_vars.items():
        kept = {
            key: value for key, value in array.attrs.items() if key not in ("grid_mapping", "coordinates")
        }
        ready[name].attrs = plain(scrubbed(kept))
        crs = array.encoding.get("grid_mapping") or array.attrs.get("grid_mapping") or "spatial_ref"
        if crs in array.coords:
            ready[name].encoding["grid_mapping"] = str(crs)
    return ready


def require_folder_name(name: object, what: str) -> None:
    """A StoreError where a variable, or a group, cannot have a folder of this name in a store."""
    text = name if isinstance(name, str) else ""
    if not text or text.startswith((".", "_")) or set(text) & set("/\\@") or text == BLOCKS:
        raise StoreError(
            f"The name of this {what} cannot be the name of a folder in a store.",
            found=repr(name),
            expected="such as 'embedding'",
            remedy=f'emb.rename({{{name!r}: "name"}})' if what != "group" else None,
        )


def metadata_objects(
    dataset: xr.Dataset,
    group: Group,
    layouts: Sequence[Layout],
    *,
    consolidated: bool,
    parts: int,
    zeros: bool,
) -> dict[str, bytes]:
    """All objects that a store begins with, by name: documents, coords and the (empty) record of its blocks.

    ``consolidated`` lists all below the group in its document, so that the store reads while its shards are written;
    ``parts`` runs share the work; ``zeros`` writes the record's objects over what an older store left there.
    """
    scales = {
        f"{layout.name}_scale": xr.Variable("D", np.asarray(layout.scale, dtype="float32"))
        for layout in layouts
        if len(layout.scale) > 1
    }
    for one in scales.values():
        one.encoding["chunk_key_encoding"] = KEYS[group.way]
    coords = {str(name): _writable(coord, group.way) for name, coord in dataset.coords.items()}
    objects: dict[str, Any] = {}
    store = MemoryStore(objects)
    with warnings.catch_warnings():
        # Zarr says that consolidated metadata and strings are not in the v3 core yet; xarray reads and writes both.
        warnings.simplefilter("ignore")
        xr.Dataset(coords | scales, attrs=dataset.attrs | group.attrs).to_zarr(
            store, zarr_format=3, consolidated=False
        )
        for layout in layouts:
            document = _document(dataset[layout.name], layout, group.way)
            objects[f"{layout.name}/zarr.json"] = default_buffer_prototype().buffer.from_bytes(document)
        create_records(store, layouts, group.way, parts=parts, zeros=zeros)
        if consolidated:
            zarr.consolidate_metadata(store, zarr_format=3)
    return {name: found.to_bytes() for name, found in objects.items()}


def append_coords(target: Target, group: Group, dataset: xr.Dataset, dim: str) -> None:
    """Let the coords of a group grow by a dataset's along a dim."""
    coords = {
        str(name): _writable(coord, group.way).drop_encoding()
        for name, coord in dataset.coords.items()
        if dim in coord.dims
    }
    if coords:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            xr.Dataset(coords, attrs=group.attrs).to_zarr(  # xarray writes attrs anew
                target.store, group=target.group or None, append_dim=dim, zarr_format=3, consolidated=False
            )


def require_units(times: xr.DataArray, units: str) -> None:
    """A StoreError unless times are whole in the units that a store counts them in, such as ``days since 2022-01-01``.

    xarray would write them in finer ones, which the store does not say.
    """
    if times.dtype.kind not in "mM" or not units:
        return
    unit, _, start = units.partition(" since ")
    index = pd.Index(times.values.ravel()).dropna()
    counted = index - pd.Timestamp(start) if times.dtype.kind == "M" else index
    step, name = pd.to_timedelta(1, unit), times.name
    if (counted % step != pd.Timedelta(0)).any():
        raise StoreError(
            f"The store counts {name!r} in whole {unit}.",
            found=index[0].isoformat(),
            expected=units,
            remedy=f'emb.assign_coords({name}=emb["{name}"].dt.floor("{step.resolution_string}")), if that is enough',
        )


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
    items = values.ravel()
    kind, missing = pd.api.types.infer_dtype(items), pd.isna(items).any()
    if kind in ("datetime", "datetime64"):
        times = pd.to_datetime(items, utc=True).tz_localize(None).as_unit("ns").to_numpy()
        return times.reshape(values.shape)
    if kind in ("boolean", "integer") and not missing:
        return values.astype(bool if kind == "boolean" else "int64")
    if kind in ("integer", "floating", "mixed-integer-float"):
        return pd.Series(items, dtype="float64").to_numpy().reshape(values.shape)
    texts = np.empty(values.shape, dtype=object)
    for place, item in zip(np.ndindex(*values.shape), items, strict=True):
        texts[place] = scrubbed(item if isinstance(item, str) else _as_json(name, item))
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


def _document(array: xr.DataArray, layout: Layout, way: int) -> bytes:
    """An array's ``zarr.json`` as xarray writes it, of a single cell that is made as large as the array."""
    dtype = array.dtype if layout.scale else np.dtype(layout.dtype)
    cell = np.full([1] * len(layout.dims), np.nan if dtype.kind == "f" else 0, dtype)
    names = [str(name) for name in array.coords if name not in array.dims]
    mapping = {"grid_mapping": array.encoding["grid_mapping"]} if "grid_mapping" in array.encoding else {}
    # Listed by hand: xarray leaves the CRS out of the list where grid_mapping names it, and then reads it as data.
    listed = {"coordinates": " ".join(names)} if names else {}
    how = encoding(layout, way) | mapping | listed
    attrs = {key: value for key, value in array.attrs.items() if key not in how}
    objects: dict[str, Any] = {}
    cells = xr.Dataset({layout.name: xr.Variable(layout.dims, cell, attrs, how)})
    cells.to_zarr(MemoryStore(objects), zarr_format=3, consolidated=False)
    written = json.loads(objects[f"{layout.name}/zarr.json"].to_bytes())
    return json.dumps(written | {"shape": layout.shape}, indent=2).encode()


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
