"""Embeddings to Zarr, block by block, so that no death of any process loses more than the blocks under way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from tlz import partition_all  # type: ignore[import-untyped]

from xr_rsembed.errors import OptionError, RsEmbedError, StoreError, StoreExistsError
from xr_rsembed.store import quantize
from xr_rsembed.store.conventions import group_attrs, scrubbed
from xr_rsembed.store.fingerprint import (
    ATTR,
    digest,
    fingerprint,
    require_format,
    require_same,
    require_values,
)
from xr_rsembed.store.journal import FOLDER, Journal, locked, state_of
from xr_rsembed.store.layout import lay_out, shard_bytes, stored_scale
from xr_rsembed.store.metadata import as_dataset, write_metadata
from xr_rsembed.store.place import Place
from xr_rsembed.store.read import open_zarr
from xr_rsembed.store.run import bar, run_blocks
from xr_rsembed.store.shards import Index, Writer

__all__ = ["to_zarr"]

_DTYPES = ("float32", "float16", "float64", "int8")
_SAMPLE = 8  # blocks that an int8 scale is taken from


@dataclass(frozen=True)
class _Item:
    """One array on its way into the store.

    Parameters
    ----------
    array : dask array
    writer : Writer
    local : bool
        Whether it was in this process's memory all along, so that no cluster should be sent a copy.
    """

    array: da.Array
    writer: Writer
    local: bool


def to_zarr(
    emb: xr.DataArray | xr.Dataset,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    resume: bool = False,
    dtype: str | None = None,
    scale: float | Literal["dimension"] | None = None,
    shards: Mapping[str, int] | None = None,
    chunks: Mapping[str, int] | None = None,
    model_url: str | None = None,
    source_data: Sequence[str] | None = None,
    progress: bool | None = None,
) -> Any:
    """Write an embedding to a Zarr v3 store, block by block; a run that was cut off can be resumed.

    Every dask block is computed once, written by the worker that computed it, and recorded once it is safe on the
    disk. After a ``kill -9`` of the process, a worker or the scheduler, a full disk, a power cut or Ctrl-C, the same
    call with ``resume=True`` computes the missing blocks only, and the store is byte for byte what an undisturbed run
    gives. Works with dask's local schedulers and with a distributed client, whose workers must see the same path.
    The store can be read while it is written: cells that are not there yet are NaN.

    Parameters
    ----------
    emb : DataArray or Dataset
        Dims (..., D, y, x), lazy or not; a Dataset's variables (one for each modality, say) share one store.
    path : path or URL
        A local path, or a URL that fsspec can write to (``memory://``, ``s3://``, ...). Two writers at once are
        refused on local disks only: an object store has no lock.
    overwrite : bool
        Replace a store that is there.
    resume : bool
        Go on with the store that is there; starts one where there is none.
    dtype : {"float32", "float16", "float64", "int8"}, optional
        Type of the stored numbers; by default the embedding's own.
    scale : float or "dimension", optional
        For ``dtype="int8"``. By default one scale for all dimensions, which xarray decodes by itself (CF
        ``scale_factor``). It is taken from eight evenly spread blocks, which are computed first and kept, and stands
        in the store, so that a resumed run uses the same; values beyond 1.25 times the largest of them are cut off
        there. A number sets the scale. ``"dimension"`` gives every dimension
        its own, which keeps more where ranges differ: kept in the array ``<name>_scale``, because xarray's decoding
        takes no array for a scale factor; :func:`xr_rsembed.open` applies it, and
        ``ds.embedding * ds.embedding_scale`` does elsewhere.
    shards, chunks : mapping of dim to length, optional
        Lengths of the shards (one object each) and of the chunks in them. By default a shard is a dask block where
        those are regular, else 112 x 112 cells in all dimensions, of chunks of 64 dimensions by 28 x 28 cells.
    model_url, source_data : str, sequence of str, optional
        URLs for the ``geoemb:`` attributes; by default from the embedding's attrs.
    progress : bool, optional
        Show a bar; by default in a terminal or notebook.

    Returns
    -------
    DataArray or Dataset
        The stored embedding, opened lazily.

    Raises
    ------
    StoreExistsError
        Where there is something at the path already and neither ``overwrite`` nor ``resume`` is set.
    StoreLockedError
        While another process writes the store.
    StoreError
        Where the store was begun with other data or settings (the message names them), is of another version, or the
        disk is full or the cluster gone; in the last two cases it can be resumed.
    OptionError
        For options that do not fit together.

    Examples
    --------
    >>> import tempfile
    >>> cells = da.ones((4, 30, 30), chunks=(4, 16, 16), dtype="float32")
    >>> emb = xr.DataArray(cells, dims=("D", "y", "x"), name="embedding")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     stored = to_zarr(emb, f"{folder}/emb.zarr")
    ...     stored.sizes["D"], float(stored.mean())
    (4, 1.0)
    """
    _check_options(overwrite, resume, dtype, scale)
    dataset = as_dataset(emb)
    place = Place.at(path)
    with _explained(place), locked(place):
        items = _items(dataset, Journal(place, ""), dtype, shards, chunks)
        group = group_attrs(
            _first(dataset), dtype=items[0].writer.layout.dtype, model=model_url, source_data=source_data
        )
        facts = fingerprint(dataset, [item.writer for item in items], group=group, scale=scale)
        fresh = _is_fresh(place, overwrite, resume)
        begun = None if fresh else _take_up(items, place, facts)
        if begun is None:
            begun = _begin(items, dataset, Journal(place, digest(facts)), facts, scale, progress, keep=resume)
        if state_of(place) == "writing":
            for item in begun:
                _write_missing(item, progress)
        begun[0].writer.journal.close()
    return open_zarr(path)


def _check_options(overwrite: bool, resume: bool, dtype: str | None, scale: Any) -> None:
    if overwrite and resume:
        raise OptionError(
            "overwrite and resume exclude each other.", found="both", expected="at most one of them"
        )
    if dtype is not None and dtype not in _DTYPES:
        raise OptionError("An embedding cannot be stored as this dtype.", found=dtype, expected=_DTYPES)
    if scale is None:
        return
    if dtype != "int8":
        raise OptionError("scale is for int8 only.", found=f"dtype={dtype!r}", expected="dtype='int8'")
    number = isinstance(scale, int | float) and not isinstance(scale, bool) and 0 < scale < float("inf")
    if scale != "dimension" and not number:
        raise OptionError(
            "This scale cannot be used.", found=repr(scale), expected="a number above 0, or 'dimension'"
        )


def _is_fresh(place: Place, overwrite: bool, resume: bool) -> bool:
    """Whether to start anew; raises where that would destroy something nobody said to destroy."""
    held = place.names() - {FOLDER}
    state = state_of(place)
    if state == "absent" and not held and not _is_file(place):
        return True
    ours = state != "absent" or "zarr.json" in held or ".zgroup" in held
    if not ours:
        raise StoreExistsError(
            f"{place} is there already and is no Zarr store.",
            found="a file" if _is_file(place) else f"a folder with {', '.join(sorted(held)[:3])}",
            expected="a new path, or a Zarr store",
            remedy="write to another path; what is there is left alone, whatever the options",
        )
    if not overwrite and not resume:
        raise StoreExistsError(
            f"{place} is there already.",
            found="a store whose writing was cut off"
            if state in ("starting", "writing")
            else "a finished store",
            expected="a new path",
            remedy="resume=True to go on with it, overwrite=True to replace it",
        )
    return overwrite or state == "starting"


def _is_file(place: Place) -> bool:
    return place.local and os.path.isfile(place.url)


def _first(dataset: xr.Dataset) -> xr.DataArray:
    return dataset[next(iter(dataset.data_vars))]


def _items(
    dataset: xr.Dataset,
    journal: Journal,
    dtype: str | None,
    shards: Mapping[str, int] | None,
    chunks: Mapping[str, int] | None,
) -> list[_Item]:
    items = []
    for name, array in dataset.data_vars.items():
        layout = lay_out(str(name), array, dtype, shards=shards, chunks=chunks)
        local = array.chunks is None
        data = da.from_array(array.values, chunks=layout.shard) if local else array.data
        items.append(_Item(data, Writer(journal, layout, data.chunks), local))
    return items


def _under(items: Sequence[_Item], journal: Journal) -> list[_Item]:
    return [replace(item, writer=replace(item.writer, journal=journal)) for item in items]


def _begin(
    items: Sequence[_Item],
    dataset: xr.Dataset,
    journal: Journal,
    facts: Mapping[str, Any],
    scale: Any,
    progress: bool | None,
    *,
    keep: bool,
) -> list[_Item]:
    """Empty the store, settle the scales, and write all metadata and coords."""
    journal.begin(keep_parts=keep)
    scaled = [_scaled(item, scale, progress) for item in _under(items, journal)]
    layouts = [item.writer.layout for item in scaled]
    attrs = {**facts["group"], ATTR: dict(facts)}
    if layouts[0].scale:
        attrs["geoemb:quantization"] = quantize.described(
            layouts[0].name, layouts[0].scale, layouts[0].source
        )
    write_metadata(journal.place, dataset, layouts, attrs)
    journal.go()
    return scaled


def _scaled(item: _Item, scale: Any, progress: bool | None) -> _Item:
    layout = item.writer.layout
    if layout.dtype != "int8" or np.dtype(layout.source).kind != "f":
        return item
    found = (
        (float(scale),) if isinstance(scale, int | float) else _measured(item, scale == "dimension", progress)
    )
    return replace(item, writer=replace(item.writer, layout=layout.with_scale(found)))


def _measured(item: _Item, per_dimension: bool, progress: bool | None) -> tuple[float, ...]:
    """The scale from a sample of blocks, spread evenly in the order of storage; they are kept, not run again."""
    writer, axis = item.writer, item.writer.layout.axis
    every = list(np.ndindex(*item.array.numblocks))
    chosen = [every[i] for i in sorted({int(i) for i in np.linspace(0, len(every) - 1, _SAMPLE).round()})]
    # The others only matter where the chosen ones are NaN throughout.
    others = [block for block in every if block not in set(chosen)]
    for sample in (chosen, *partition_all(_SAMPLE, others)):
        parts = writer.journal.parts()
        missing = [
            b
            for b in sample
            if any((writer.name(s), writer.name(b)) not in parts for s in writer.shards_of(b))
        ]
        with bar(len(sample), len(sample) - len(missing), show=progress, label="int8 scale") as advance:
            run_blocks(item.array, missing, writer.keep, local=item.local, advance=advance)
        magnitudes = [quantize.magnitude(part, axis) for block in sample for part in writer.kept(block)]
        scale = quantize.fit(magnitudes, per_dimension=per_dimension)
        if scale is not None:
            return scale
    raise StoreError(
        "There is no value to take the int8 scale from.",
        found="an embedding that is NaN everywhere",
        expected="at least one valid cell",
        remedy="store it as float32, or give the scale: scale=0.05",
    )


def _take_up(items: Sequence[_Item], place: Place, facts: Mapping[str, Any]) -> list[_Item] | None:
    """The items as the store was begun with them, once it is sure that it is the same run.

    None where that is in doubt, and nothing is finished yet that could settle it or be lost.
    """
    group = zarr.open_group(place.url, mode="r")
    stored: Any = group.attrs.get(ATTR)
    require_format(stored, str(place))
    certain = require_same(stored, facts, str(place))
    begun = [_scaled_as(item, group) for item in _under(items, Journal(place, digest(stored)))]
    if certain:
        return begun
    compared = [_compared(item) for item in begun]
    return begun if any(compared) else None


def _scaled_as(item: _Item, group: zarr.Group) -> _Item:
    """The item with the scale that stands in the store."""
    name = item.writer.layout.name
    scales = np.asarray(group[f"{name}_scale"]) if f"{name}_scale" in group else None
    layout = item.writer.layout.with_scale(stored_scale(dict(group[name].attrs), scales))
    return replace(item, writer=replace(item.writer, layout=layout))


def _compared(item: _Item) -> bool:
    """Run one finished shard again, and raise unless its bytes come out the same; False where none is finished."""
    writer, place = item.writer, item.writer.journal.place
    missing = set(writer.missing_shards()) if state_of(place) == "writing" else set()
    done = [shard for shard in writer.shards() if shard not in missing]
    if not done:
        for part in writer.journal.parts():
            writer.journal.forget(*part)  # with nothing to compare, nothing to build on
        return False
    shard = next((one for one in done if place.exists(writer.path(one))), done[0])
    values = item.array[writer.window(shard)].compute(scheduler="threads" if item.local else None)
    same = shard_bytes(values, writer.layout) == place.get(writer.path(shard))
    require_values(same, str(place), writer.name(shard))
    return True


def _write_missing(item: _Item, progress: bool | None) -> None:
    writer = item.writer
    _join_all(writer)
    blocks = writer.missing_blocks()
    total = item.array.npartitions
    with bar(total, total - len(blocks), show=progress, label=f"writing {writer.layout.name}") as advance:
        run_blocks(item.array, blocks, writer.write, local=item.local, advance=advance)
    left = _join_all(writer)
    if left:
        raise StoreError(
            "Some shards are not in the store though every block was run.",
            found=f"{len(left)} shards, such as {writer.name(left[0])}",
            expected="all of them, on a disk that every worker sees",
            remedy="check that the path is on one shared disk, then go on with resume=True",
        )


def _join_all(writer: Writer) -> list[Index]:
    """Join what can be joined: parts whose last keeper died before it could, or did not see the others'."""
    return [shard for shard in writer.missing_shards() if not writer.join(shard)]


@contextmanager
def _explained(place: Place) -> Iterator[None]:
    """Say of every failure that what is finished is safe, and name those that come from the disk or the cluster."""
    try:
        yield
    except RsEmbedError:
        raise
    except OSError as error:
        if not place.local:
            raise StoreError(
                f"{place} cannot be reached.",
                found=f"{type(error).__name__}: {scrubbed(str(error))}",
                expected="a place that answers and lets you write",
                remedy="check the address and your access, then go on with resume=True; finished blocks are safe",
            ) from None
        if error.errno not in _DISK:
            raise
        raise StoreError(
            f"{place} cannot be written.",
            found=f"{_DISK[error.errno]} ({error})",
            expected="a folder with room and the right to write",
            remedy="make room or take another path, then go on with resume=True; finished blocks are safe",
        ) from error
    except Exception as error:
        if not type(error).__module__.startswith("distributed"):
            raise
        raise StoreError(
            "The cluster failed while the store was written.",
            found=f"{type(error).__name__}: {error}",
            expected="workers that live",
            remedy="look into the workers' logs (memory?), then go on with resume=True; finished blocks are safe",
        ) from error


_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EACCES: "no right to write",
    errno.EPERM: "no right to write",
    errno.EROFS: "a read-only disk",
}
