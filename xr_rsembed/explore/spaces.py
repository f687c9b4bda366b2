"""Which embeddings may be compared: those of one vector space, as their attrs tell, and cell by cell on one grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import GridError, MismatchError
from xr_rsembed.georef import describe_grid, scene_geobox

# What decides the meaning of the D numbers. Tiling, batching and precision only change how exactly they are met.
_DECIDING = (
    "model",
    "model_key",
    "modality",
    "bands",
    "normalization",
    "layer",
    "patch_size",
    "input_prep",
    "grid_type",
    "model_options",
)
_WEIGHTS = ("weights", "weights_sha256")
_ORIGIN = ("model", "model_key", "modality", *_WEIGHTS, "layer")


def provenance(emb: xr.DataArray) -> dict[str, Any]:
    """The attrs that a map made from an embedding keeps: of which model it is."""
    return {name: emb.attrs[name] for name in _ORIGIN if name in emb.attrs}


def space_of(emb: xr.DataArray) -> dict[str, Any]:
    """The vector space of an embedding: its length D, and the attrs that decide what the numbers mean.

    Examples
    --------
    >>> emb = xr.DataArray(np.ones(3), dims="D", attrs={"model_key": "terrafm_b", "overlap": 0})
    >>> space_of(emb)
    {'D': 3, 'model_key': 'terrafm_b'}
    """
    attrs = {name: emb.attrs[name] for name in (*_DECIDING, *_WEIGHTS) if name in emb.attrs}
    # Of several layers or modalities one was chosen: the attrs still list all of them, the coord names it.
    coords = {name: emb.coords[name] for name in ("layer", "modality") if name in emb.coords}
    chosen = {name: coord.item() for name, coord in coords.items() if coord.ndim == 0}
    return {"D": emb.sizes["D"], **attrs, **chosen}


def check_same_space(one: Mapping[str, Any], other: Mapping[str, Any], doing: str) -> None:
    """Raise a MismatchError that begins with ``doing`` and names every attr in which two spaces of vectors differ."""
    differing = [name for name in ("D", *_DECIDING) if not _same(one.get(name), other.get(name))]
    hashes = [space.get("weights_sha256") for space in (one, other)]
    weights = "weights_sha256" if all(hashes) else "weights"
    if not _same(one.get(weights), other.get(weights)):
        differing.append(weights)
    if not differing:
        return
    first, second = (
        ", ".join(f"{name} {_as_text(space.get(name))}" for name in differing) for space in (one, other)
    )
    unknown = any(space.keys() <= {"D"} for space in (one, other))
    raise MismatchError(
        f"{doing} needs vectors of one model, made in one way.",
        found=second,
        expected=first,
        remedy="where attrs were lost on the way: emb.assign_attrs(other.attrs)"
        if unknown
        else "xr_rsembed.reproduce(emb, other_scene) embeds another scene by the same settings",
    )


def check_same_grid(one: xr.DataArray, other: xr.DataArray, doing: str) -> None:
    """Raise a GridError unless two embeddings have the same cells."""
    boxes = [scene_geobox(emb) for emb in (one, other)]
    if boxes[0].shape == boxes[1].shape and boxes[0].crs == boxes[1].crs:
        affine, second = (tuple(box.affine)[:6] for box in boxes)
        if np.abs(np.subtract(affine, second)).max() < 0.01 * abs(affine[0]):
            return
    raise GridError(
        f"{doing} needs both embeddings on one grid.",
        found=describe_grid(boxes[1]),
        expected=describe_grid(boxes[0]),
        remedy="bring the scenes to one grid before embedding: xr_rsembed.align(scenes)",
    )


def _same(one: Any, other: Any) -> bool:
    """Equality of plain attrs; a store may give lists back as arrays or tuples."""
    if one is None or other is None:
        return one is other
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))


def _as_text(value: Any) -> str:
    return "unknown" if value is None else repr(value.tolist() if hasattr(value, "tolist") else value)
