"""Adding to a store that is there: more dates along a dim, or the shards of a region."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
import zarr

from xr_rsembed.errors import OptionError, StoreError, StoreNotFoundError
from xr_rsembed.store.conventions import plain
from xr_rsembed.store.fingerprint import (
    ATTR,
    another_run,
    coord_hash,
    digest,
    fingerprint,
    require_format,
    require_same,
)
from xr_rsembed.store.group import BEFORE, BLOCKS, Group, consolidate_root, look, tidy
from xr_rsembed.store.layout import Layout
from xr_rsembed.store.lock import locked
from xr_rsembed.store.metadata import write_metadata
from xr_rsembed.store.pieces import Piece
from xr_rsembed.store.target import TOKEN, Target, shared_token
from xr_rsembed.store.write import OutOfRangeError, Run, forget, write

__all__ = ["add"]


def add(
    target: Target,
    there: Group | None,
    dataset: xr.Dataset,
    region: Any,
    append_dim: str | None,
    *,
    resume: bool,
    verify: bool,
    retries: int,
    progress: bool | None,
) -> None:
    """Write a dataset into a store that is there; see :func:`xr_rsembed.store.zarr.to_zarr`."""
    if there is None:
        raise StoreNotFoundError(
            f"There is no store at {target} to write a region of.",
            expected="a store that to_zarr began",
            remedy="to_zarr(whole, store, compute=False) begins one",
        )
    require_format(there.attrs.get(ATTR), str(target))
    options: dict[str, Any] = {"resume": resume, "verify": verify, "retries": retries, "progress": progress}
    if append_dim is None:
        _write_region(target, there, dataset, _found_region(target, dataset, region), **options)
        return
    with locked(None if target.root is None else target.root / target.group):
        there = look(target)
        assert there is not None
        try:
            _append(target, there, dataset, append_dim, **options)
        finally:
            consolidate_root(target)


def _append(
    target: Target, there: Group, dataset: xr.Dataset, dim: str, *, resume: bool, **options: Any
) -> None:
    for name, array in dataset.data_vars.items():
        if dim not in array.dims:
            raise OptionError(
                f"{name!r} has no dim to append along.",
                found=f"append_dim={dim!r}, dims {array.dims}",
                expected=f"one of {array.dims}",
                remedy=f"emb.expand_dims({dim!r})",
            )
    stored = _stored(target)
    old, new = stored.sizes[dim], dataset.sizes[dim]
    where = {dim: slice(old, old + new)}
    _require_fit(target, there, dataset, stored, where)
    labels = [one for one in (stored, dataset) if dim in one.coords]
    if len(labels) == 1:
        raise another_run(str(target), [f"the coord {dim!r} on one side only"])
    if labels:
        before, now = (one[dim].values for one in labels)
        if old >= new and _equal(before[-new:], now) and (resume or there.state != "complete"):
            _write_appended(target, there, dataset, dim, slice(old - new, old), **options)
            return
        if len(np.unique(now)) < len(now):
            raise StoreError(
                f"Some labels of {dim!r} are there twice in what is appended.",
                found=f"{len(now) - len(np.unique(now))} of {len(now)}",
                expected="every label once",
                remedy=f"emb.drop_duplicates({dim!r})",
            )
        double = np.isin(now, before)
        if double.any():
            raise StoreError(
                f"Some labels of {dim!r} are in {target} already.",
                found=", ".join(map(str, now[double][:3])),
                expected="labels that it has not",
                remedy='region="auto" writes them again, resume=True finishes an append that was cut off',
            )
    if there.state != "complete":
        raise StoreError(
            f"{target} is not finished, so nothing can be appended to it.",
            found=f"a store that is {there.state}",
            expected="a finished store",
            remedy="finish it with the call that began it and resume=True",
        )
    layouts = _layouts(there, grown=where)
    for layout in layouts:
        one = layout.shard[layout.dims.index(dim)]
        if old % one:
            raise _unaligned(target, dim, f"{old} there, in shards of {one}")
    facts = _grown(there, dataset, stored, dim, layouts)
    kept = {key: value for key, value in there.attrs.items() if key != ATTR}
    there = there.put(target, rsembed_state="incomplete")
    data_only = dataset.drop_vars([name for name in dataset.coords if dim not in dataset[name].dims])
    write_metadata(target.store, target.group, data_only, layouts, there.attrs, there.way, append_dim=dim)
    for layout in layouts:
        zarr.open_array(target.store, path=target.key(f"{BLOCKS}/{layout.name}"), mode="r+").resize(
            layout.grid
        )
    again = look(target)
    assert again is not None
    again = Group({**again.document, "attributes": {**kept, ATTR: facts}}).put(
        target, rsembed_state="incomplete", **{BEFORE: there.facts}
    )
    _write_appended(target, again, dataset, dim, where[dim], **options)


def _write_appended(
    target: Target, there: Group, dataset: xr.Dataset, dim: str, span: slice, **options: Any
) -> None:
    """Write what the store has grown by; where its scale cannot hold that, the store is as it was before."""
    try:
        _write_region(target, there, dataset, {dim: span}, resume=True, **options)
    except OutOfRangeError:
        _take_back(target, dim)
        raise


def _take_back(target: Target, dim: str) -> None:
    """Give a store the size back that it had before the append along a dim that is not finished."""
    there = look(target)
    before = None if there is None else there.attrs.get(BEFORE)
    if there is None or before is None:
        return
    if not target.commits:
        target.write(TOKEN, b"refused")  # what still writes shards stops at its next one
    former = _layouts(there.put(target, **{ATTR: before}))
    sizes = {name: size for one in former for name, size in zip(one.dims, one.shape, strict=True)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr remarks on the folder of the run's token, and on consolidation
        group = zarr.open_group(target.store, path=target.group, mode="r+", use_consolidated=False)
        for _, array in list(group.arrays()):
            names = getattr(array.metadata, "dimension_names", None) or ()
            if dim in names:
                pairs = zip(names, array.shape, strict=True)
                array.resize(tuple(sizes[dim] if name == dim else size for name, size in pairs))
        for layout in former:
            blocks = zarr.open_array(target.store, path=target.key(f"{BLOCKS}/{layout.name}"), mode="r+")
            blocks.resize(layout.grid)
        if there.document.get("consolidated_metadata"):
            zarr.consolidate_metadata(target.store, path=target.group or None, zarr_format=3)
    again = look(target)
    assert again is not None
    again.put(target, rsembed_state="complete", **{BEFORE: None})
    if not target.commits:
        tidy(target)


def _write_region(
    target: Target,
    there: Group,
    dataset: xr.Dataset,
    region: Mapping[str, slice],
    *,
    resume: bool,
    verify: bool,
    retries: int,
    progress: bool | None,
) -> None:
    stored = _stored(target)
    _require_fit(target, there, dataset, stored, region)
    pieces = []
    for layout in _layouts(there):
        if layout.name not in dataset:
            continue
        spans = [region.get(dim, slice(0, size)) for dim, size in zip(layout.dims, layout.shape, strict=True)]
        for dim, span, one, size in zip(layout.dims, spans, layout.shard, layout.shape, strict=True):
            if span.start % one or (span.stop % one and span.stop != size):
                raise _unaligned(target, dim, f"{span.start} to {span.stop}, in shards of {one}")
        offset = tuple(span.start // one for span, one in zip(spans, layout.shard, strict=True))
        array = dataset[layout.name].transpose(*layout.dims)
        pieces.append(Piece.of(array, layout, offset, strict=bool(layout.scale)))
    token = shared_token(digest(there.facts)).encode()  # runs on other regions are welcome
    if not target.commits:
        target.write(TOKEN, token)
    run = Run(target, there.put(target, rsembed_state="incomplete"), pieces, token, shared=True)
    if not resume:
        forget(run)
    write(run, {}, verify=verify, retries=retries, progress=progress)


def _stored(target: Target) -> xr.Dataset:
    return xr.open_zarr(
        target.store,
        group=target.group or None,
        chunks=None,
        consolidated=None if target.store.supports_consolidated_metadata and not target.group else False,
        mask_and_scale=False,
    )


def _require_fit(
    target: Target, there: Group, dataset: xr.Dataset, stored: xr.Dataset, region: Mapping[str, slice]
) -> None:
    """Raise unless a dataset is of the store's vector space and lies where the region says."""
    missing = set(there.facts["arrays"]) ^ set(map(str, dataset.data_vars))
    if missing:
        raise another_run(str(target), [f"{name!r} on one side only" for name in sorted(missing)])
    layouts = _layouts(there)
    same = {
        layout.name: array.chunks is not None and _has_windows(array)
        for layout in layouts
        for array in (dataset[layout.name],)
    }
    proof = {name: "pixels" if windows else "values" for name, windows in same.items()}
    asked = [
        Layout(
            one.name,
            tuple(map(str, dataset[one.name].dims)),
            dataset[one.name].shape,
            one.dtype,
            one.source,
            one.shard,
            one.inner,
        )
        for one in layouts
    ]
    facts = fingerprint(dataset, asked, proof=proof, group={}, scale=None)
    require_same(there.facts, facts, str(target), along=list(region))
    for name, coord in dataset.coords.items():
        along = [dim for dim in coord.dims if dim in region]
        if name not in stored.coords and name not in stored:
            raise another_run(str(target), [f"no coord {name!r} there"])
        held = stored[name]
        if along and all(region[str(dim)].stop <= held.sizes[dim] for dim in along):
            held = held.isel({dim: region[str(dim)] for dim in along})
        elif along:
            continue  # still to be appended
        if not _equal(held.values, coord.values):
            raise another_run(str(target), [f"other values of the coord {name!r}"])


def _has_windows(array: xr.DataArray) -> bool:
    return any(str(name).startswith("rsembed-windows-") for name in array.data.dask.layers)


def _layouts(there: Group, grown: Mapping[str, slice] | None = None) -> list[Layout]:
    layouts = []
    for name, facts in there.facts["arrays"].items():
        dims = tuple(facts["dims"])
        shape = tuple(
            grown[dim].stop if grown and dim in grown else size
            for dim, size in zip(dims, facts["shape"], strict=True)
        )
        quantization = there.attrs.get("geoemb:quantization") or {}
        source = str(quantization.get("original_dtype", facts["dtype"]))
        layout = Layout(
            name, dims, shape, facts["dtype"], source, tuple(facts["shard"]), tuple(facts["chunk"])
        )
        layouts.append(layout.with_scale(there.scale(name)))
    return layouts


def _grown(
    there: Group, dataset: xr.Dataset, stored: xr.Dataset, dim: str, layouts: list[Layout]
) -> dict[str, Any]:
    """The store's fingerprint with what is appended."""
    facts = dict(there.facts)
    coords = dict(facts["coords"])
    for name, coord in dataset.coords.items():
        if dim in coord.dims:
            both = xr.Variable.concat([one.variable.to_base_variable() for one in (stored[name], coord)], dim)
            coords[str(name)] = coord_hash(both)
    arrays = {}
    for layout in layouts:
        old = dict(facts["arrays"][layout.name])
        axis = layout.dims.index(dim)
        blocks = [list(runs) for runs in old["blocks"]]
        array = dataset[layout.name]
        added = array.chunksizes.get(dim, (array.sizes[dim],))
        blocks[axis] = [*blocks[axis], *([length, 1] for length in added)]
        arrays[layout.name] = {**old, "shape": list(layout.shape), "blocks": blocks}
    found: dict[str, Any] = plain({**facts, "arrays": arrays, "coords": coords})
    return found


def _found_region(target: Target, dataset: xr.Dataset, region: Any) -> dict[str, slice]:
    """The region as slices of integers."""
    if region != "auto" and not isinstance(region, Mapping):
        raise OptionError(
            "This region cannot be used.",
            found=repr(region),
            expected='a mapping of dim to slice, or "auto"',
            remedy='region="auto"',
        )
    stored = _stored(target)
    given = dict.fromkeys(map(str, dataset.dims), "auto") if isinstance(region, str) else dict(region)
    found: dict[str, slice] = {}
    for dim, span in given.items():
        if dim not in dataset.dims:
            raise OptionError(
                "The region has a dim that the embedding has not.", found=dim, expected=tuple(dataset.dims)
            )
        size, whole = dataset.sizes[dim], stored.sizes.get(dim, 0)
        if isinstance(span, str):
            span = _by_labels(target, dataset, stored, dim)
        if not isinstance(span, slice) or span.step not in (None, 1):
            raise OptionError(
                "A region is made of slices.", found=repr(span), expected='slice(start, stop), or "auto"'
            )
        start, stop, _ = span.indices(whole)
        if stop - start != size:
            raise OptionError(
                f"The region and the embedding differ along {dim!r}.",
                found=f"{stop - start} there, {size} in the embedding",
                expected="the same length",
            )
        found[dim] = slice(start, stop)
    return found


def _by_labels(target: Target, dataset: xr.Dataset, stored: xr.Dataset, dim: str) -> slice:
    size, whole = dataset.sizes[dim], stored.sizes.get(dim, 0)
    if dim not in dataset.coords or dim not in stored.coords:
        if size == whole:
            return slice(0, whole)
        raise OptionError(
            f"The region along {dim!r} cannot be found.",
            found="no labels",
            expected="a coord on both sides",
            remedy=f"region={{{dim!r}: slice(start, stop)}}",
        )
    held = stored[dim].values
    match = np.flatnonzero(held == dataset[dim].values[0])
    start = int(match[0]) if match.size else 0
    if not match.size or not _equal(held[start : start + size], dataset[dim].values):
        raise another_run(str(target), [f"other labels along {dim!r}"])
    return slice(start, start + size)


def _unaligned(target: Target, dim: str, found: str) -> StoreError:
    return StoreError(
        f"Shards of {target} would be written in part along {dim!r}.",
        found=found,
        expected="edges that are edges of shards",
        remedy="a region of whole shards, or a store with smaller ones: shards={...}",
    )


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind == "f" and other.dtype.kind == "f":
        return bool(np.array_equal(one, other, equal_nan=True))
    return bool(np.all(one == other))
