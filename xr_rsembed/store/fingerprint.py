"""What decides a store's bytes, written down, so that a resumed run is the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import xarray as xr

from xr_rsembed.errors import StoreError
from xr_rsembed.store.conventions import plain
from xr_rsembed.store.layout import Layout

__all__ = ["ATTR", "another_run", "coord_hash", "digest", "fingerprint", "require_format", "require_same"]

ATTR = "xr_rsembed:fingerprint"
FORMAT = 2  # raised whenever a store's layout changes
# Attrs that say where pixels came from, not how vectors were made: they may differ from part to part of one store.
_PROVENANCE = {"source_data", "datetime", "start_datetime", "end_datetime", "title", "description", "history"}


def fingerprint(
    dataset: xr.Dataset,
    layouts: Iterable[Layout],
    *,
    proof: Mapping[str, str],
    group: Mapping[str, Any],
    scale: Any,
) -> dict[str, Any]:
    """All that decides the bytes but pixels, as JSON types: arrays with attrs and blocks, coords, group attributes.

    Pixels are proved block by block (:mod:`xr_rsembed.store.evidence`); ``proof`` says for each array by what.
    """
    arrays = {
        layout.name: {
            "dims": layout.dims,
            "shape": layout.shape,
            "blocks": [
                _runs(along) for along in dataset[layout.name].chunks or tuple((n,) for n in layout.shape)
            ],
            "shard": layout.shard,
            "chunk": layout.inner,
            "dtype": layout.dtype,
            "proof": proof[layout.name],
            "attrs": dataset[layout.name].attrs,
        }
        for layout in layouts
    }
    coords = {str(name): coord_hash(coord.variable) for name, coord in dataset.coords.items()}
    facts = {"format": FORMAT, "arrays": arrays, "coords": coords, "group": group, "scale": scale}
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
        remedy="finish it with the version that began it, or write to another path",
    )


def require_same(
    found: Mapping[str, Any], asked: Mapping[str, Any], where: str, *, along: Sequence[str] | None = None
) -> None:
    """Raise StoreError that names every difference, unless two fingerprints agree.

    Parameters
    ----------
    found, asked : mapping
        As :func:`fingerprint` gives them.
    where : str
        The store, for the message.
    along : sequence of dim, optional
        What is asked is a part of the store, or an addition to it, along these dims.
    """
    if along is not None:
        found, asked = (_shared(one, along) for one in (found, asked))
    old, new = dict(_flat(found)), dict(_flat(asked))
    differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if differing:
        raise another_run(
            where, [f"{key}: {old.get(key, 'none')} there, {new.get(key, 'none')} now" for key in differing]
        )


def another_run(where: str, differences: Sequence[str]) -> StoreError:
    """The error that names differences between what a store holds and what was asked for."""
    more = [f"and {len(differences) - 8} more"] if len(differences) > 8 else []
    return StoreError(
        f"{where} was begun with other data or settings.",
        found="; ".join([*differences[:8], *more]),
        expected="the scene, model, weights, settings and blocks that it was begun with",
        remedy="ask for the same again, write to another path, or start anew with overwrite=True",
    )


def coord_hash(variable: xr.Variable) -> str:
    """A short text for a coord's dims, values and attrs."""
    values = variable.values
    # Objects have no bytes of their own: their text stands for them.
    content = repr(values.tolist()).encode() if values.dtype.kind in "OUT" else values.tobytes()
    kind = "text" if values.dtype.kind in "OUT" else values.dtype.str
    head = json.dumps([variable.dims, kind, plain(variable.attrs)], sort_keys=True)
    return hashlib.sha256(head.encode() + content).hexdigest()[:16]


def _shared(facts: Mapping[str, Any], along: Sequence[str]) -> dict[str, Any]:
    """What all parts of one store have in common."""
    arrays = {}
    for name, array in facts["arrays"].items():
        shape = dict(zip(array["dims"], array["shape"], strict=True))
        attrs = {key: value for key, value in array["attrs"].items() if key not in _PROVENANCE}
        arrays[name] = {
            "dims": array["dims"],
            "shape": {dim: size for dim, size in shape.items() if dim not in along},
            "dtype": array["dtype"],
            "proof": array["proof"],
            "attrs": attrs,
        }
    return {"format": facts["format"], "arrays": arrays}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value)


def _runs(lengths: Sequence[int]) -> list[list[int]]:
    """Lengths with their number of repeats: a large scene has hundreds of equal blocks."""
    return [[length, len(list(run))] for length, run in groupby(lengths)]
