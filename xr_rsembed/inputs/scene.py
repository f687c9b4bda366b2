"""From one DataArray to an input that an encoder may see. The steps stand in the order in which they are taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xr_rsembed import bands
from xr_rsembed.crs import grid_mapping, stored_transform
from xr_rsembed.errors import SceneError
from xr_rsembed.georef import check_grid, geobox_coords, scene_geobox
from xr_rsembed.inputs.cf import Stored, nodata_attr, read_stored
from xr_rsembed.inputs.labels import (
    band_labels,
    check_numbering,
    masked_by_band,
    stack_bands,
    warn_of_position,
    with_band_dim,
)
from xr_rsembed.inputs.modality import choose_modality, incomplete, unnamed
from xr_rsembed.inputs.record import Input, Pixels
from xr_rsembed.inputs.units import reading, stated_units
from xr_rsembed.models.spec import Modality, ModelSpec
from xr_rsembed.normalize import Normalization

# Where catalogues and readers say of which baseline Sentinel-2 is, and that its offset was taken off.
_BASELINES = ("s2:processing_baseline", "processing_baseline", "PROCESSING_BASELINE")
_APPLIED = ("earthsearch:boa_offset_applied", "boa_offset_applied")


def validate(
    scene: xr.DataArray,
    spec: ModelSpec,
    *,
    modality: str | None = None,
    normalize: str = "default",
    units: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Input:
    """Check that a scene can be embedded; read no pixel of a lazy one.

    ``normalize="none"`` passes pixels on as they are, in whatever units. ``options`` are the model's, complete.
    """
    check_grid(scene, spec.resolution)
    _check_dtype(scene)
    scene, stored, declared = _known(scene, spec, modality)
    kind = spec.input(spec, declared.name, options or spec.options)
    pixels = _pixels(scene, kind, stored, normalize, units)
    scene = _in_order(scene, kind, declared, spec)
    scene, flipped = north_up(scene.transpose(..., "band", "y", "x"))
    return Input(scene, kind.bands, pixels, units or "", "", flipped)


def select_bands(
    scene: xr.DataArray | xr.Dataset, spec: ModelSpec, modality: str | None = None
) -> xr.DataArray:
    """The scene with the model's bands, in its order and by its canonical names."""
    whole = stack_bands(scene) if isinstance(scene, xr.Dataset) else scene
    check_grid(whole, spec.resolution)  # type: ignore[arg-type]  # says that it is no DataArray where it is none
    scene, stored, kind = _known(whole, spec, modality)  # type: ignore[arg-type]
    positions = bands.reorder(_labels(scene, kind, spec), kind.bands)
    chosen = scene.isel(band=positions).assign_coords(band=("band", list(kind.bands)))
    return chosen.assign_attrs(nodata_attr(stored.nodata))


def _known(
    scene: xr.DataArray, spec: ModelSpec, modality: str | None
) -> tuple[xr.DataArray, Stored, Modality]:
    """The scene without its masks, what is stored beside its pixels, and its modality."""
    # First of all, because rioxarray keeps a part of it on this very object.
    scene, stored = read_stored(scene)
    scene = masked_by_band(with_band_dim(scene, modality))
    kind = choose_modality(scene, spec, modality)
    check_numbering(scene, kind)
    return scene, stored, kind


def _labels(scene: xr.DataArray, kind: Modality, spec: ModelSpec) -> list[str]:
    """The names of bands of which none is lacking; bands without names are taken in the modality's order."""
    labels = band_labels(scene)
    if labels is None:
        if scene.sizes["band"] != len(kind.bands):
            raise unnamed(scene, kind)
        warn_of_position(kind)
        return [*kind.bands]
    lacking = incomplete(labels, kind, spec)
    if lacking is not None:
        raise lacking
    return labels


def north_up(scene: xr.DataArray) -> tuple[xr.DataArray, tuple[str, ...]]:
    """The scene with north up and west left, and the dims that were flipped for it."""
    placed = {"y", "x"} if stored_transform(scene) is not None else {"y", "x"} & {*map(str, scene.coords)}
    if not placed:
        return scene, ()
    grid = scene_geobox(scene)
    if grid.crs is None and {abs(grid.affine.a), abs(grid.affine.e)} == {1.0} and abs(grid.affine.f) <= 0.5:
        return scene, ()  # numbers of rows, which count from the top
    wrong = (("y", grid.affine.e > 0), ("x", grid.affine.a < 0))
    flipped = tuple(dim for dim, backwards in wrong if backwards and dim in placed)
    if not flipped:
        return scene, ()
    result = scene.isel({dim: slice(None, None, -1) for dim in flipped})
    mapping = grid_mapping(result)
    if mapping is not None:
        # The transform that a file left behind says where the first pixel was.
        kept = {key: value for key, value in mapping.attrs.items() if key != "GeoTransform"}
        result = result.assign_coords({mapping.name: (mapping.dims, mapping.values, kept)})
    if {"y", "x"} <= {*result.coords}:
        return result, flipped
    grid = grid.flipy() if "y" in flipped else grid
    grid = grid.flipx() if "x" in flipped else grid
    return result.assign_coords(geobox_coords(grid)), flipped


def on_own_axes(given: xr.DataArray, flipped: tuple[str, ...]) -> xr.DataArray:
    """A result on the axes of the scene that was given: what :func:`north_up` flipped, flipped back."""
    if not flipped:
        return given
    grid = scene_geobox(given) if {"y", "x"} <= {*given.coords} else None
    result = given
    for dim in flipped:
        grid = grid if grid is None else grid.flipy() if dim == "y" else grid.flipx()
        for own in {dim, f"tile_{dim}"} & {*map(str, given.dims)}:
            result = result.isel({own: slice(None, None, -1)})
            if result.chunks is not None:
                # A shorter chunk at the end has come to the beginning.
                result = result.chunk({own: max(result.chunksizes[own])})
    coords = {} if grid is None else geobox_coords(grid)
    return result.assign_coords({name: coords[name] for name in ("spatial_ref",) if name in coords})


def input_attrs(item: Input) -> dict[str, Any]:
    """What the embedding's attrs say of one input."""
    return {
        "modality": item.pixels.modality,
        "variable": item.variable,
        "units": item.units,
        "bands": list(item.bands),
        "normalization": item.pixels.normalization.source or item.pixels.normalization.kind,
    }


def _check_dtype(scene: xr.DataArray) -> None:
    if scene.dtype.kind not in "uif" or scene.dtype.itemsize > 8:  # torch has no long double
        raise SceneError(
            "Pixels must be real numbers.",
            found=f"dtype {scene.dtype}",
            expected="an integer or floating dtype, such as uint16",
            remedy="for complex SAR data take the power: abs(da) ** 2"
            if scene.dtype.kind == "c"
            else "da.astype('float32')",
        )


def _in_order(scene: xr.DataArray, kind: Modality, declared: Modality, spec: ModelSpec) -> xr.DataArray:
    """The bands that the model takes; some of a modality's where options say so, else all of them in its order."""
    if kind.bands != declared.bands:
        labels = band_labels(scene)
        if labels is None and scene.sizes["band"] == len(declared.bands):
            warn_of_position(declared)
            labels = [*declared.bands]
        if labels is not None:
            return scene.isel(band=bands.reorder(labels, kind.bands))
    bands.check_order(_labels(scene, kind, spec), kind.bands, remedy=f'da.rsembed.to_bands("{spec.key}")')
    return scene


def _pixels(scene: xr.DataArray, kind: Modality, stored: Stored, normalize: str, units: str | None) -> Pixels:
    """What the numbers mean."""
    stated = stated_units(scene, units, kind.units)
    if normalize == "none":
        raw = Normalization("none", source="none")
        return Pixels(kind.name, raw, kind.bands, stored.nodata, stored.nodata_stated, stored.valid_range)
    packing = stored.packing
    scale, offset, to_db = reading(scene, kind, stated, packing)
    nodata = stored.nodata
    power = to_db or kind.units == "linear"
    if power:
        # Power of exactly 0 was never measured: it fills what the sensor did not see, in both providers' scenes too.
        nodata = tuple(sorted({*nodata, 0.0}))
    return Pixels(
        modality=kind.name,
        normalization=kind.normalization,
        bands=kind.bands,
        nodata=nodata,
        nodata_stated=stored.nodata_stated,
        valid_range=stored.valid_range,
        scale=scale,
        offset=offset,
        floor=1.0 if kind.units == "DN" and packing.offset < 0 and stored.zero_was_nodata else None,
        to_db=to_db,
        power=power,
        units=kind.units,
        stated=stated,
        packed=bool(packing) and not packing.decoded,
        offset_due=kind.units == "DN" and not packing and _offset_due(scene),
    )


def _offset_due(scene: xr.DataArray) -> bool:
    """Whether metadata say that these DN must have lost an offset of 1000."""

    def stated(names: tuple[str, ...]) -> list[str]:
        places = [where[name] for where in (scene.attrs, scene.coords) for name in names if name in where]
        return [str(value).lower() for place in places for value in np.ravel(np.asarray(place))]

    baselines = pd.to_numeric(pd.Series(stated(_BASELINES), dtype=object), errors="coerce")
    return bool((baselines >= 4.0).any()) or not {"true", "1"}.isdisjoint(stated(_APPLIED))
