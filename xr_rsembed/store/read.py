"""Reading a stored embedding back: dims, coords, CRS, attrs and the embedding's own numbers."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from dask.base import tokenize

from xr_rsembed.errors import StoreError, StoreNotFoundError, warn
from xr_rsembed.store.group import BLOCKS, look
from xr_rsembed.store.target import StoreLike, Target
from xr_rsembed.store.trouble import explained

__all__ = ["open_target", "open_zarr"]


def open_zarr(
    store: StoreLike,
    *,
    group: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Any:
    """Open a Zarr store of an embedding, lazily.

    A store that is still being written, or whose writing was cut off, opens too: cells that are not written yet are
    NaN, and a warning says so.

    Parameters
    ----------
    store : path, URL or zarr.abc.store.Store
    group : str, optional
        A group in the store.
    storage_options : mapping, optional
        For fsspec.

    Returns
    -------
    DataArray, Dataset or DataTree
        A DataArray where the store holds one array, a DataTree where its root holds groups of arrays. int8 is decoded
        to the dtype that it was made from.

    Raises
    ------
    StoreNotFoundError
        If there is no Zarr store.
    StoreError
        If it cannot be read.
    """
    return open_target(Target.at(store, group=group, storage_options=storage_options))


def open_target(target: Target, *, quiet: bool = False) -> Any:
    """Open the group at a target; ``quiet`` where the caller knows that it is not complete."""
    with explained(target, "read", local=target.root is not None):
        there = look(target)
        if there is None or there.state == "starting":
            raise StoreNotFoundError(
                f"There is no Zarr store at {target}.",
                found="nothing that is one" if there is None else "metadata that is not written yet",
                expected="a store that to_zarr wrote, or any Zarr store of arrays",
            )
        if not there.ours and there.attrs.get("zarr_format") != 2:
            names = _groups(target)
            if names:
                return xr.DataTree.from_dict(
                    {"/" + name: _as_dataset(open_target(target.under(name), quiet=quiet)) for name in names}
                )
        if there.ours and there.state != "complete" and not quiet:
            warn(
                f"{target} is not finished: cells that are not written yet read as NaN. Where no process is at work "
                "on it any more, emb.rsembed.to_zarr(path, resume=True) goes on with it."
            )
        return _decoded_group(target)


def _groups(target: Target) -> list[str]:
    """Paths of the groups below a group that hold embeddings, by their documents."""
    names = sorted(name for name in target.objects() if name.endswith("/zarr.json"))
    paths = [f"{target.group}/{name.removesuffix('/zarr.json')}".strip("/") for name in names]
    return [
        path
        for path in paths
        if not path.endswith(f"/{BLOCKS}")
        and path != BLOCKS
        and (found := look(target.under(path)))
        and (
            found.ours or "geoemb:dimensions" in found.attrs
        )  # a region's zones have only the convention's attrs
    ]


def _as_dataset(found: xr.DataArray | xr.Dataset) -> xr.Dataset:
    return found.to_dataset() if isinstance(found, xr.DataArray) else found


def _decoded_group(target: Target) -> xr.DataArray | xr.Dataset:
    """The group as xarray decodes it, with a dask chunk for each shard.

    By the small chunks inside the shards a granule would be tens of thousands of tasks.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = xr.open_zarr(
                target.store,
                group=target.group or None,
                chunks=None,
                decode_coords="all",
                consolidated=None
                if target.store.supports_consolidated_metadata and not target.group
                else False,
            )
    except FileNotFoundError as error:
        raise StoreNotFoundError(
            f"There is no Zarr store at {target}.", found=str(error), expected="a store that to_zarr wrote"
        ) from error
    except (ValueError, KeyError) as error:
        raise StoreError(
            f"{target} cannot be read as a Zarr store.",
            found=f"{type(error).__name__}: {error}",
            expected="a Zarr store of labelled arrays",
        ) from error
    token = tokenize(str(target), _changed(target))
    dataset = dataset.map(lambda array: _chunked(array, token), keep_attrs=True)
    decoded = dataset.map(lambda array: _decoded(array, dataset), keep_attrs=True)
    scales = [f"{name}_scale" for name in decoded.data_vars if f"{name}_scale" in decoded]
    arrays = decoded.drop_vars(scales)
    names = list(arrays.data_vars)
    return arrays[names[0]] if len(names) == 1 else arrays


def _changed(target: Target) -> Any:
    """What differs between one state of a store and the next: a local one's times, another's every opening."""
    if target.root is None:
        return os.urandom(8)
    found = [target.root / target.group, target.root / target.key("zarr.json")]
    return [path.stat().st_mtime_ns for path in found if path.exists()]


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
