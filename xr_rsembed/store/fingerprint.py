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
from xr_rsembed.store.pieces import Piece

ATTR = "xr_rsembed:fingerprint"
FORMAT = 2  # raised whenever a store's layout changes


def fingerprint_of(
    dataset: xr.Dataset, pieces: Sequence[Piece], *, group: Mapping[str, Any], scale: Any
) -> dict[str, Any]:
    """All that decides the bytes but pixels, as JSON types: arrays with attrs and blocks, coords, group attributes.

    Pixels are proved block by block (:mod:`xr_rsembed.store.digests`); ``proof`` says for each array by what.
    """
    arrays = {
        piece.name: {
            "dims": piece.layout.dims,
            "shape": piece.layout.shape,
            "blocks": [
                _runs(along) for along in dataset[piece.name].chunks or [(n,) for n in piece.layout.shape]
            ],
            "shard": piece.layout.shard,
            "chunk": piece.layout.inner,
            "dtype": piece.layout.dtype,
            "proof": piece.proof,
            "attrs": dataset[piece.name].attrs,
        }
        for piece in pieces
    }
    coords = {str(name): coord_hash(coord.variable) for name, coord in dataset.coords.items()}
    found: dict[str, Any] = plain(
        {"format": FORMAT, "arrays": arrays, "coords": coords, "group": group, "scale": scale}
    )
    return found


def hashed(found: Mapping[str, Any]) -> str:
    """A short name for a fingerprint."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]


def require_format(found: Any, where: str) -> None:
    """Raise StoreError unless a store's fingerprint is of this version's format."""
    number = found.get("format") if isinstance(found, Mapping) else None
    if number != FORMAT:
        raise StoreError(
            f"{where} was written by another version of xr-rsembed, or by another program.",
            found="no format" if number is None else f"format {number}",
            expected=f"format {FORMAT}",
            remedy="finish it with the version that began it, or write to another path",
        )


def require_same(found: Mapping[str, Any], asked: Mapping[str, Any], where: str, **words: Any) -> None:
    """Raise StoreError that names every difference, unless two trees of settings agree."""
    old, new = dict(_flat(found)), dict(_flat(asked))
    differing = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if differing:
        texts = [f"{key}: {old.get(key, 'none')} there, {new.get(key, 'none')} now" for key in differing]
        raise another_run(where, texts, **words)


def another_run(
    where: str,
    differences: Sequence[str],
    *,
    remedy: str = "ask for the same again, write to another path, or start anew with overwrite=True",
) -> StoreError:
    """The error that names differences between what a store holds and what was asked for."""
    more = [f"and {len(differences) - 8} more"] if len(differences) > 8 else []
    return StoreError(
        f"{where} was begun with other data or settings.",
        found="; ".join([*differences[:8], *more]),
        expected="the scene, model, weights, settings and blocks that it was begun with",
        remedy=remedy,
    )


def coord_hash(variable: xr.Variable) -> str:
    """A short text for a coord's dims, values and attrs."""
    values = variable.values
    # Objects have no bytes of their own: their text stands for them.
    content = repr(values.tolist()).encode() if values.dtype.kind in "OUT" else values.tobytes()
    kind = "text" if values.dtype.kind in "OUT" else values.dtype.str
    head = json.dumps([variable.dims, kind, plain(variable.attrs)], sort_keys=True)
    return hashlib.sha256(head.encode() + content).hexdigest()[:16]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value)


def _runs(lengths: Sequence[int]) -> list[list[int]]:
    """Lengths with their number of repeats: a large scene has hundreds of equal blocks."""
    return [[length, len(list(run))] for length, run in groupby(lengths)]
