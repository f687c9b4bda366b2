"""Adding to a store that is there: more dates along a dim, or the shards of a region."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
import xarray as xr
import zarr

from xr_rsembed.errors import OptionError, StoreError, StoreNotFoundError, one_of
from xr_rsembed.store.block_record import Run, forget, shared_token
from xr_rsembed.store.conventions import plain
from xr_rsembed.store.disk import locked
from xr_rsembed.store.fingerprint import ATTR, another_run, coord_hash, hashed, require_format, require_same
from xr_rsembed.store.group import (
    BEFORE,
    BLOCKS,
    STATE,
    Group,
    consolidate,
    consolidate_again,
    read_group,
    tidy,
)
from xr_rsembed.store.layout import Layout
from xr_rsembed.store.metadata import append_coords, require_units
from xr_rsembed.store.pieces import Piece
from xr_rsembed.store.target import TOKEN, Target
from xr_rsembed.store.write import OutOfRangeError, write

# Attrs that say where pixels came from, not how vectors were made: they may differ from part to part of one store.
_PROVENANCE = {"source_data", "datetime", "start_datetime", "end_datetime", "title", "description", "history"}
_REMEDY = "add what was made with the store's model, weights, settings and grid; write anything else to another path"

Region = Mapping[str, slice]


@dataclass(frozen=True)
class _Addition:
    """A dataset, and the group that it is added to with the labels that are there."""

    target: Target
    group: Group
    dataset: xr.Dataset
    stored: xr.Dataset

    def differs(self, difference: str) -> StoreError:
        return another_run(str(self.target), [difference], remedy=_REMEDY)


def add(
    target: Target, dataset: xr.Dataset, region: Any, append_dim: str | None, *, resume: bool, **options: Any
) -> None:
    """Write a dataset into a store that is there; see :func:`xr_rsembed.store.zarr.to_zarr`."""
    with locked(None if append_dim is None else target.folder):
        there = read_group(target)
        if there is not None and append_dim is not None and there.half_grown:
            there = take_back(target, there)
        if there is None:
            raise StoreNotFoundError(
                f"There is no store at {target} to write a region of.",
                expected="a store that to_zarr began",
                remedy="to_zarr(whole, store, compute=False) begins one",
            )
        require_format(there.attrs.get(ATTR), str(target))
        stored = xr.open_zarr(
            target.store,
            group=target.group or None,
            chunks=None,
            consolidated=None if target.store.supports_consolidated_metadata and not target.group else False,
            mask_and_scale=False,
        )
        addition = _Addition(target, there, dataset, stored)
        if append_dim is None:
            spans = _found_region(addition, region)
            _require_fit(addition, spans)
            _write(addition, spans, resume=resume, **options)
            return
        try:
            _append(addition, append_dim, resume=resume, **options)
        finally:
            if target.group:
                consolidate_again(target.under(""))


def _append(addition: _Addition, dim: str, *, resume: bool, **options: Any) -> None:
    """Write a dataset behind the end of a dim, or go on with that where it was cut off."""
    dataset, stored = addition.dataset, addition.stored
    for name, array in dataset.data_vars.items():
        if dim not in array.dims:
            raise OptionError(
                f"{name!r} has no dim to append along.",
                found=f"append_dim={dim!r}, dims {array.dims}",
                expected=f"one of {array.dims}",
                remedy=f"emb.expand_dims({dim!r})",
            )
    if (dim in stored.coords) != (dim in dataset.coords):
        raise addition.differs(f"the coord {dim!r} on one side only")
    old, new = stored.sizes.get(dim, 0), dataset.sizes[dim]
    unfinished = addition.group.state != "complete"
    last = dim in stored.coords and _equal(stored[dim].values[-new:], dataset[dim].values)
    again = last and (resume or unfinished)
    span = slice(old - new, old) if again else slice(old, old + new)
    _require_fit(addition, {dim: span})
    if not again:
        _require_new(addition, dim)
        if unfinished:
            raise StoreError(
                f"{addition.target} is not finished, so nothing can be appended to it.",
                found=f"a store that is {addition.group.state}",
                expected="a finished store",
                remedy="finish it with the call that began it and resume=True",
            )
        addition = replace(addition, group=_grow(addition, dim, span))
    try:
        _write(addition, {dim: span}, resume=True, **options)
    except OutOfRangeError:
        there = read_group(addition.target)
        if there is not None and BEFORE in there.attrs:
            take_back(addition.target, there)
        raise


def _require_new(addition: _Addition, dim: str) -> None:
    """Raise where labels of what is appended are there twice, or in the store already."""
    if dim not in addition.dataset.coords:
        return
    labels = addition.dataset.get_index(dim)
    taken = labels[labels.isin(addition.stored.get_index(dim)) | labels.duplicated()]
    if len(taken):
        raise StoreError(
            f"Some labels of {dim!r} are in {addition.target} already, or twice in what is appended.",
            found=", ".join(map(str, taken[:3])),
            expected="labels that it has not, every one once",
            remedy=f'region="auto" writes them again, resume=True finishes an append that was cut off; '
            f"emb.drop_duplicates({dim!r})",
        )


def _grow(addition: _Addition, dim: str, span: slice) -> Group:
    """The group, with room for what is appended and with the fingerprint of the whole."""
    target, there, dataset = addition.target, addition.group, addition.dataset
    layouts = _layouts(there, grown={dim: span})
    for layout in layouts:
        shard = layout.shard[layout.dims.index(dim)]
        if span.start % shard:
            raise _unaligned(target, dim, f"{span.start} there, in shards of {shard}")
    fingerprint = _grown_fingerprint(addition, dim, layouts)
    growing = there.put(target, **{STATE: "incomplete", BEFORE: there.fingerprint})
    append_coords(target, growing, dataset, dim)
    # xarray drops what is consolidated in it, by which readers still see the store as it was.
    growing.put(target)
    return _resize(target, layouts).put(target, **{ATTR: fingerprint})


def _grown_fingerprint(addition: _Addition, dim: str, layouts: Sequence[Layout]) -> dict[str, Any]:
    """The store's fingerprint with what is appended."""
    fingerprint, dataset = addition.group.fingerprint, addition.dataset
    coords, arrays = dict(fingerprint["coords"]), {}
    for name, coord in dataset.coords.items():
        if dim in coord.dims:
            both = [one.variable.to_base_variable() for one in (addition.stored[name], coord)]
            coords[str(name)] = coord_hash(xr.Variable.concat(both, dim))
    for layout in layouts:
        old, array = fingerprint["arrays"][layout.name], dataset[layout.name]
        blocks, axis = list(old["blocks"]), layout.dims.index(dim)
        added = array.chunksizes.get(dim, (array.sizes[dim],))
        blocks[axis] = [*blocks[axis], *([length, 1] for length in added)]
        arrays[layout.name] = {**old, "shape": list(layout.shape), "blocks": blocks}
    found: dict[str, Any] = plain({**fingerprint, "arrays": arrays, "coords": coords})
    return found


def take_back(target: Target, there: Group) -> Group:
    """Give a store the size back that it had before an append that is not finished."""
    if not target.commits:
        target.write(TOKEN, b"refused")  # what still writes shards stops at its next one
    resized = _resize(target, _layouts(there.put(target, **{ATTR: there.attrs[BEFORE]})))
    complete = resized.put(target, **{STATE: "complete", BEFORE: None})
    if not target.commits:
        tidy(target)
    return complete


def _resize(target: Target, layouts: Sequence[Layout]) -> Group:
    """Give all arrays, and the record of blocks, the lengths that the layouts have; gives the group."""
    sizes = {name: size for one in layouts for name, size in zip(one.dims, one.shape, strict=True)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr remarks on the folder of the run's token
        group = zarr.open_group(target.store, path=target.group, mode="r+", use_consolidated=False)
        for _, array in list(group.arrays()):
            names = getattr(array.metadata, "dimension_names", None) or [None] * array.ndim
            shape = tuple(sizes.get(name, size) for name, size in zip(names, array.shape, strict=True))
            if shape != array.shape:
                array.resize(shape)
        for layout in layouts:
            blocks = zarr.open_array(target.store, path=target.key(f"{BLOCKS}/{layout.name}"), mode="r+")
            blocks.resize(layout.grid)
    consolidate(target)
    resized = read_group(target)
    assert resized is not None
    return resized


def _write(addition: _Addition, region: Region, *, resume: bool, **options: Any) -> None:
    """Write a dataset into whole shards of the store."""
    target, there = addition.target, addition.group
    pieces = []
    for layout in _layouts(there):
        spans = [region.get(dim, slice(0, size)) for dim, size in zip(layout.dims, layout.shape, strict=True)]
        for dim, span, shard, size in zip(layout.dims, spans, layout.shard, layout.shape, strict=True):
            if span.start % shard or (span.stop % shard and span.stop != size):
                raise _unaligned(target, dim, f"{span.start} to {span.stop}, in shards of {shard}")
        offset = tuple(span.start // shard for span, shard in zip(spans, layout.shard, strict=True))
        piece = Piece.of(addition.dataset[layout.name], layout, offset)
        # Blocks are proved as those that are there: by their values, by their pixels, or not at all.
        by_pixels = there.fingerprint["arrays"][layout.name]["proof"] == "pixels"
        unproved = by_pixels and piece.windows is None
        pieces.append(replace(piece, unproved=unproved, windows=piece.windows if by_pixels else None))
    token = shared_token(hashed(there.fingerprint))  # runs on other regions are welcome
    if not target.commits:
        target.write(TOKEN, token)
    run = Run(target, there.put(target, **{STATE: "incomplete"}), pieces, token, shared=True)
    if not resume:
        forget(run)
    write(run, **options)


def _require_fit(addition: _Addition, region: Region) -> None:
    """Raise unless a dataset is of the store's vector space and lies where the region says."""
    arrays, dataset, stored = addition.group.fingerprint["arrays"], addition.dataset, addition.stored
    if missing := sorted(set(arrays) ^ set(map(str, dataset.data_vars))):
        raise addition.differs(f"{missing[0]!r} on one side only")
    old = {name: _common(one["dims"], one["shape"], one["attrs"], region) for name, one in arrays.items()}
    new = {
        str(name): _common(one.dims, one.shape, one.attrs, region) for name, one in dataset.data_vars.items()
    }
    require_same({"arrays": old}, {"arrays": new}, str(addition.target), remedy=_REMEDY)
    for layout in _layouts(addition.group):
        dtype = dataset[layout.name].dtype
        if not np.can_cast(dtype, layout.source, "same_kind"):
            raise addition.differs(f"arrays.{layout.name}.dtype: {layout.source} there, {dtype} now")
    for name, coord in dataset.coords.items():
        if name not in stored.coords and name not in stored:
            raise addition.differs(f"no coord {name!r} there")
        held = stored[name]
        if not _same_kind(coord.dtype, held.dtype):
            raise addition.differs(f"the coord {name!r} of dtype {held.dtype} there, {coord.dtype} now")
        require_units(coord, held.encoding.get("units", ""))
        along = [str(dim) for dim in coord.dims if dim in region]
        if any(region[dim].stop > held.sizes[dim] for dim in along):
            continue  # still to be appended
        if not _equal(held.isel({dim: region[dim] for dim in along}).values, coord.values):
            raise addition.differs(f"other values of the coord {name!r}")


def _common(dims: Any, shape: Any, attrs: Mapping[str, Any], region: Region) -> dict[str, Any]:
    """What an array and an addition to it have in common."""
    sizes = {dim: size for dim, size in zip(dims, shape, strict=True) if dim not in region}
    kept = {key: value for key, value in attrs.items() if key not in _PROVENANCE}
    found: dict[str, Any] = plain({"dims": dims, "shape": sizes, "attrs": kept})
    return found


def _layouts(there: Group, grown: Region | None = None) -> list[Layout]:
    """The layouts of a store's arrays, by its fingerprint."""
    source = (there.attrs.get("geoemb:quantization") or {}).get("original_dtype")
    layouts = []
    for name, entry in there.fingerprint["arrays"].items():
        pairs = zip(entry["dims"], entry["shape"], strict=True)
        shape = tuple(grown[dim].stop if grown and dim in grown else size for dim, size in pairs)
        cut = tuple(entry["shard"]), tuple(entry["chunk"])
        stored_as = entry["dtype"]
        layouts.append(
            Layout(name, tuple(entry["dims"]), shape, stored_as, source or stored_as, *cut, there.scale(name))
        )
    return layouts


def _found_region(addition: _Addition, region: Any) -> dict[str, slice]:
    """The region as slices of integers."""
    dataset, stored = addition.dataset, addition.stored
    given: Any = dict.fromkeys(map(str, dataset.dims), "auto") if region == "auto" else region
    spans = given.values() if isinstance(given, Mapping) else [None]
    if not all(span == "auto" or _is_span(span) for span in spans):
        raise OptionError(
            "This region cannot be used.",
            found=repr(region),
            expected='a mapping of dim to slice(start, stop), or "auto"',
            remedy='region="auto"',
        )
    found: dict[str, slice] = {}
    for dim, span in given.items():
        one_of("a dim of region", dim, dataset.dims)
        span = _by_labels(addition, dim) if span == "auto" else span
        start, stop, _ = span.indices(stored.sizes.get(dim, 0))
        if stop - start != dataset.sizes[dim]:
            raise OptionError(
                f"The region and the embedding differ along {dim!r}.",
                found=f"{stop - start} there, {dataset.sizes[dim]} in the embedding",
                expected="the same length",
            )
        found[dim] = slice(start, stop)
    return found


def _is_span(span: Any) -> bool:
    whole = isinstance(span, slice) and span.step in (None, 1)
    return whole and all(end is None or isinstance(end, Integral) for end in (span.start, span.stop))


def _by_labels(addition: _Addition, dim: str) -> slice:
    """Where the labels of what is added lie along a dim of the store."""
    dataset, stored = addition.dataset, addition.stored
    size, labelled = dataset.sizes[dim], dim in dataset.coords and dim in stored.coords
    if not labelled and size != stored.sizes.get(dim, 0):
        raise OptionError(
            f"The region along {dim!r} cannot be found.",
            found="no labels",
            expected="a coord on both sides",
            remedy=f"region={{{dim!r}: slice(start, stop)}}",
        )
    start = int(np.argmax(stored[dim].values == dataset[dim].values[0])) if labelled else 0
    if labelled and not _equal(stored[dim].values[start : start + size], dataset[dim].values):
        raise addition.differs(f"other labels along {dim!r}")
    return slice(start, start + size)


def _unaligned(target: Target, dim: str, found: str) -> StoreError:
    return StoreError(
        f"Shards of {target} would be written in part along {dim!r}.",
        found=found,
        expected="edges that are edges of shards",
        remedy="a region of whole shards, or a store with smaller ones: shards={...}",
    )


def _same_kind(new: np.dtype, old: np.dtype) -> bool:
    """Whether labels of one dtype can be added to those of another; texts have several."""
    return old.kind in "OUT" if new.kind in "OUT" else np.can_cast(new, old, "same_kind")


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == other.dtype.kind == "f"))
