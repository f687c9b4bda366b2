"""What decides a store's bytes, written down, so that a resumed run is the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import xarray as xr
from dask.base import tokenize

from xr_rsembed.errors import StoreError
from xr_rsembed.store.conventions import plain
from xr_rsembed.store.shards import Writer

__all__ = ["ATTR", "FORMAT", "digest", "fingerprint", "require_format", "require_same", "require_values"]

ATTR = "xr_rsembed:fingerprint"
FORMAT = 1  # raised whenever a store's layout changes


def fingerprint(
    dataset: xr.Dataset,
    writers: Iterable[Writer],
    *,
    group: Mapping[str, Any],
    scale: Any,
) -> dict[str, Any]:
    """All that decides the bytes, as JSON types: format, arrays with their attrs and blocks, coords, group attributes.

    Pixel values are not known before they are computed. Under ``data`` stands dask's name for them instead, which
    covers the scene, the weights and the settings, and is the same in every process for any source that dask can
    name (files by path and time of change, arrays by content). A name that differs proves nothing, so it raises a
    doubt (:func:`require_same`) and no error.
    """
    arrays = {
        writer.layout.name: {
            "dims": writer.layout.dims,
            "shape": writer.layout.shape,
            "blocks": [_runs(along) for along in writer.chunks],
            "shard": writer.layout.shard,
            "chunk": writer.layout.inner,
            "dtype": writer.layout.dtype,
            "attrs": dataset[writer.layout.name].attrs,
        }
        for writer in writers
    }
    data = {writer.layout.name: _data_name(dataset[writer.layout.name]) for writer in writers}
    coords = {str(name): _hash(coord.variable) for name, coord in dataset.coords.items()}
    facts = {
        "format": FORMAT,
        "arrays": arrays,
        "coords": coords,
        "group": group,
        "scale": scale,
        "data": data,
    }
    found: dict[str, Any] = plain(facts)
    return found


def digest(found: Mapping[str, Any]) -> str:
    """A short name for a fingerprint."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def require_format(found: Any, where: str) -> None:
    """Raise StoreError unless a store's fingerprint is of this version's format."""
    number = found.get("format") if isinstance(found, Mapping) else None
    if number == FORMAT:
        return
    age = "no format" if number is None else f"format {number}"
    raise StoreError(
        f"{where} was written by another version of xr-rsembed, or by another program.",
        found=age,
        expected=f"format {FORMAT}",
        remedy="finish it with the version that began it, or write it anew with overwrite=True",
    )


def require_same(found: Mapping[str, Any], asked: Mapping[str, Any], where: str) -> bool:
    """Raise StoreError that names every difference, unless two fingerprints agree; whether that is beyond doubt.

    Returns
    -------
    bool
        False where the names of the data differ, and nothing else: then only the values can tell.
    """
    old, new = dict(_flat(found)), dict(_flat(asked))
    differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if all(key.startswith("data.") for key in differing):
        return not differing
    raise _another_run(
        where, [f"{key}: {old.get(key, 'none')} there, {new.get(key, 'none')} now" for key in differing]
    )


def require_values(same: bool, where: str, shard: str) -> None:
    """Raise StoreError unless a finished shard holds what the embedding has there."""
    if not same:
        raise _another_run(where, [f"other values in {shard}, which is finished there"])


def _another_run(where: str, differences: Sequence[str]) -> StoreError:
    more = [f"and {len(differences) - 8} more"] if len(differences) > 8 else []
    return StoreError(
        f"{where} was begun with other data or settings, so it cannot be resumed with these.",
        found="; ".join([*differences[:8], *more]),
        expected="the scene, model, weights, settings and blocks that it was begun with",
        remedy="ask for the same again, write to another path, or start anew with overwrite=True",
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value)


def _runs(lengths: Sequence[int]) -> list[list[int]]:
    """Lengths with their number of repeats: a large scene has hundreds of equal blocks."""
    return [[length, len(list(run))] for length, run in groupby(lengths)]


def _data_name(array: xr.DataArray) -> str:
    return str(array.data.name) if array.chunks is not None else str(tokenize(array.values))


def _hash(variable: xr.Variable) -> str:
    values = variable.values
    # Objects have no bytes of their own: their text stands for them.
    content = repr(values.tolist()).encode() if values.dtype.kind in "OUT" else values.tobytes()
    kind = "text" if values.dtype.kind in "OUT" else values.dtype.str
    head = json.dumps([variable.dims, kind, plain(variable.attrs)], sort_keys=True)
    return hashlib.sha256(head.encode() + content).hexdigest()[:16]
