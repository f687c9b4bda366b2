"""Reading a stored embedding back: dims, coords, CRS, attrs and the embedding's own numbers."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from xr_rsembed.errors import RsEmbedError, RsEmbedWarning, StoreError, StoreNotFoundError
from xr_rsembed.store.conventions import scrubbed
from xr_rsembed.store.journal import State, state_of
from xr_rsembed.store.place import Place

__all__ = ["open_zarr"]


def open_zarr(path: str | os.PathLike[str]) -> xr.DataArray | xr.Dataset:
    """Open a Zarr store of an embedding, lazily.

    A store that is still being written, or whose writing was cut off, opens too: cells that are not written yet are
    NaN, and a warning says so.

    Parameters
    ----------
    path : path or URL

    Returns
    -------
    DataArray or Dataset
        A DataArray where the store holds one array. int8 is decoded to the dtype that it was made from.

    Raises
    ------
    StoreNotFoundError
        If there is no Zarr store.
    """
    place = Place.at(path)
    try:
        state, dataset = _steadily_opened(place)
    except RsEmbedError:
        raise
    except OSError as error:
        raise StoreError(
            f"{place} cannot be reached.",
            found=f"{type(error).__name__}: {scrubbed(str(error))}",
            expected="a place that answers and lets you read",
        ) from (error if place.local else None)
    if state == "writing":
        warnings.warn(
            f"{place} is not finished: cells that are not written yet read as NaN. Where no process is at work on "
            "it any more, emb.rsembed.to_zarr(path, resume=True) goes on with it.",
            RsEmbedWarning,
            stacklevel=2,
        )
    decoded = dataset.map(lambda array: _decoded(array, dataset), keep_attrs=True)
    scales = [f"{name}_scale" for name in decoded.data_vars if f"{name}_scale" in decoded]
    arrays = decoded.drop_vars(scales)
    names = list(arrays.data_vars)
    return arrays[names[0]] if len(names) == 1 else arrays


def _steadily_opened(place: Place) -> tuple[State, xr.Dataset]:
    """The store and the state of its writing; opened again where a writer changed the state meanwhile."""
    state = state_of(place)
    try:
        dataset = _opened(place, state == "starting")
    except StoreError:
        if state_of(place) == state:
            raise
        return _steadily_opened(place)
    return (state, dataset) if state_of(place) == state else _steadily_opened(place)


def _opened(place: Place, starting: bool) -> xr.Dataset:
    """The store as xarray decodes it, with a dask chunk for each shard.

    By the small chunks inside the shards a granule would be tens of thousands of tasks.
    """
    try:
        if starting:
            raise FileNotFoundError("its metadata is not written yet")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=FutureWarning)
            dataset = xr.open_zarr(place.url, chunks=None, decode_coords="all")
    except FileNotFoundError as error:
        raise StoreNotFoundError(
            f"There is no Zarr store at {place}.",
            found=str(error),
            expected="a store that to_zarr wrote, or any Zarr store of arrays",
        ) from error
    except (ValueError, KeyError, OSError) as error:
        raise StoreError(
            f"{place} cannot be read as a Zarr store.",
            found=f"{type(error).__name__}: {error}",
            expected="a Zarr store of labelled arrays",
        ) from error
    token = tokenize(place.url, place.changed())
    return dataset.map(lambda array: _chunked(array, token), keep_attrs=True)


def _chunked(array: xr.DataArray, token: str) -> xr.DataArray:
    lengths = array.encoding.get("shards") or array.encoding.get("chunks") or array.shape
    chunked: xr.DataArray = array.chunk(
        dict(zip(array.dims, lengths, strict=True)), token=f"{token}-{array.name}"
    )
    return chunked


def _decoded(array: xr.DataArray, dataset: xr.Dataset) -> xr.DataArray:
    """The array in the dtype that it was quantized from, with the scale that xarray does not apply itself."""
    quantization: Any = dataset.attrs.get("geoemb:quantization") or {}
    scale = f"{array.name}_scale"
    if scale in dataset:
        # xarray has turned the code for NaN into NaN already.
        return array * dataset[scale].astype(array.dtype)
    if "scale_factor" in array.encoding and quantization:
        return array.astype(np.dtype(quantization.get("original_dtype", "float32")), copy=False)
    return array
