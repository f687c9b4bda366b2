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
from xr_rsembed.store.group import BLOCKS, read_group
from xr_rsembed.store.io_errors import explained
from xr_rsembed.store.target import StoreLike, Target


def open_zarr(
    store: StoreLike, *, group: str | None = None, storage_options: Mapping[str, Any] | None = None
) -> Any:
    """Open a Zarr store lazily; see :func:`xr_rsembed.open`."""
    return open_target(Target.at(store, group=group, storage_options=storage_options))


def open_target(target: Target, *, quiet: bool = False) -> Any:
    """Open the group at a target; ``quiet`` where the caller knows that it is not complete."""
    with explained(target, "check the address and your rights", doing="read", local=target.root is not None):
        there = read_group(target)
        if there is None or there.state == "starting":
            raise _nothing(target, "nothing that is one" if there is None else "metadata not written yet")
        if not there.ours and there.attrs.get("zarr_format") != 2 and (names := _groups(target)):
            opened = {name: open_target(target.under(name), quiet=quiet) for name in names}
            return xr.DataTree.from_dict(
                {
                    f"/{name}": one.to_dataset() if isinstance(one, xr.DataArray) else one
                    for name, one in opened.items()
                }
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
    paths = [target.key(name).removesuffix("/zarr.json") for name in names]
    found = {path: read_group(target.under(path)) for path in paths if path.rpartition("/")[2] != BLOCKS}
    # A region's zones have only the convention's attrs.
    return [path for path, one in found.items() if one and (one.ours or "geoemb:dimensions" in one.attrs)]


def _decoded_group(target: Target) -> xr.DataArray | xr.Dataset:
    """The group as xarray decodes it, with a dask chunk for each shard.

    By the small chunks inside the shards a granule would be tens of thousands of tasks.
    """
    consolidated = target.store.supports_consolidated_metadata and not target.group
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = xr.open_zarr(
                target.store,
                group=target.group or None,
                chunks=None,
                decode_coords="all",
                consolidated=None if consolidated else False,
            )
    except FileNotFoundError as error:
        raise _nothing(target, str(error)) from error
    except (ValueError, KeyError) as error:
        raise StoreError(
            f"{target} cannot be read as a Zarr store.",
            found=f"{type(error).__name__}: {error}",
            expected="a Zarr store of labelled arrays",
        ) from error
    token = tokenize(str(target), _changed(target))

    def chunked(array: xr.DataArray) -> xr.DataArray:
        lengths = array.encoding.get("shards") or array.encoding.get("chunks") or array.shape
        return array.chunk(dict(zip(array.dims, lengths, strict=True)), token=f"{token}-{array.name}")

    dataset = dataset.map(chunked, keep_attrs=True)
    decoded = dataset.map(lambda array: _decoded(array, dataset), keep_attrs=True)
    arrays = decoded.drop_vars([f"{name}_scale" for name in decoded.data_vars if f"{name}_scale" in decoded])
    names = list(arrays.data_vars)
    return arrays[names[0]] if len(names) == 1 else arrays


def _changed(target: Target) -> Any:
    """What differs between one state of a store and the next: a local one's times, another's every opening."""
    if target.folder is None:
        return os.urandom(8)
    found = [target.folder, target.folder / "zarr.json"]
    return [path.stat().st_mtime_ns for path in found if path.exists()]


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


def _nothing(target: Target, found: str) -> StoreNotFoundError:
    return StoreNotFoundError(
        f"There is no Zarr store at {target}.",
        found=found,
        expected="a store that to_zarr wrote, or any Zarr store of arrays",
    )
