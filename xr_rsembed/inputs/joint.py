"""From a Dataset, or a mapping of arrays, to one checked input for each modality, all on one grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed import bands
from xr_rsembed.crs import stored_transform
from xr_rsembed.errors import (
    GridError,
    OptionError,
    RsEmbedError,
    SceneError,
    UnknownModelError,
    known_name,
    one_of,
)
from xr_rsembed.georef import check_axes, check_grid, describe_grid, scene_geobox
from xr_rsembed.inputs.labels import band_labels, check_times, counts_bands
from xr_rsembed.inputs.modality import named_modalities, pick_modality
from xr_rsembed.inputs.record import Input
from xr_rsembed.inputs.scene import north_up, validate
from xr_rsembed.models.spec import Modality, ModelSpec

Scenes = xr.Dataset | Mapping[str, xr.DataArray]


def validate_joint(
    scenes: Scenes,
    spec: ModelSpec,
    *,
    modalities: Mapping[str, str] | Iterable[str] | None = None,
    normalize: str = "default",
    units: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[Input, ...]:
    """Check that several modalities can be embedded together; read no pixel of a lazy one.

    Each is a variable with y and x of one grid, and a band dim of its own name or none; leading dims are broadcast.
    ``modalities`` gives variables by modality, or lists those to take; the inputs come in that order.
    """
    arrays = {str(name): array for name, array in _arrays(scenes).items()}
    chosen = _chosen(arrays, spec, modalities)
    if len(chosen) > 1 and not spec.joint:
        raise SceneError(
            f"{spec.key} takes one modality at a time.",
            found=", ".join(chosen),
            expected="one variable",
            remedy=f'ds["{next(iter(chosen.values()))}"].rsembed.embed("{spec.key}")',
        )
    stated = _units(units, chosen)
    own = _with_own_bands([arrays[variable] for variable in chosen.values()], [*chosen], spec)
    if isinstance(scenes, xr.Dataset) and len(chosen) > 1:
        _check_joined(own[0])
        check_times({variable: arrays[variable] for variable in chosen.values()}, mutual=True)
    north, flipped = zip(*(north_up(array) for array in own), strict=True)
    inputs = []
    for (name, variable), array, dims in zip(chosen.items(), _on_one_grid(north), flipped, strict=True):
        checked = validate(
            array, spec, modality=name, normalize=normalize, units=stated.get(name), options=options
        )
        inputs.append(replace(checked, variable=variable, flipped=dims))
    return tuple(_broadcast(inputs))


def _arrays(scenes: Scenes) -> Mapping[Any, xr.DataArray]:
    """The variables; a grid mapping without dims is none."""
    if isinstance(scenes, xr.Dataset):
        return {name: array for name, array in scenes.data_vars.items() if array.dims}
    for name, array in scenes.items():
        if not isinstance(array, xr.DataArray):
            raise SceneError(
                f"{name!r} is no scene.", found=type(array).__name__, expected="DataArray (..., band, y, x)"
            )
    return scenes


def _chosen(
    arrays: Mapping[str, xr.DataArray], spec: ModelSpec, modalities: Mapping[str, str] | Iterable[str] | None
) -> dict[str, str]:
    """Variable names by the model's own names of the modalities."""
    chosen: dict[str, str] = {}
    for asked, variable in _asked(arrays, modalities):
        known_name(variable, arrays, f"There is no variable {variable!r}.", SceneError)
        name = _modality_of(variable, arrays, asked, spec)
        if name in chosen or variable in chosen.values():
            pairs = [*chosen.items(), (name, variable)]
            raise OptionError(
                f"{'The modality ' + name if name in chosen else 'The variable ' + variable} is given twice.",
                found=", ".join(f"{one}: {other}" for one, other in pairs),
                expected="one variable for each modality",
                remedy=f'modalities={{"{name}": "{variable}"}} says which',
            )
        chosen[name] = variable
    if not chosen:
        raise SceneError("There is no variable to embed.", found="none", expected="one for each modality")
    return chosen


def _asked(arrays: Mapping[str, xr.DataArray], modalities: Any) -> list[tuple[str, str]]:
    """Pairs of modality and variable; an empty modality is for the variable to tell."""
    if modalities is not None and not isinstance(modalities, Iterable):
        raise OptionError(
            "modalities= says which variables to take.",
            found=repr(modalities),
            expected='{"S2L2A": "name of the variable"} or ["name of the variable"]',
        )
    if isinstance(modalities, Mapping):
        return [(str(name), str(variable)) for name, variable in modalities.items()]
    names = arrays if modalities is None else [modalities] if isinstance(modalities, str) else modalities
    return [("", str(name)) for name in names]


def _modality_of(variable: str, arrays: Mapping[str, xr.DataArray], asked: str, spec: ModelSpec) -> str:
    """The modality that was asked for, or that a variable's name or attrs tell."""
    attr = arrays[variable].attrs.get("modality")
    try:
        meant = named_modalities(spec, asked or variable)
    except UnknownModelError as error:
        if asked:
            raise
        if attr is None:
            raise _no_modality(variable, arrays, spec) from error
        meant = named_modalities(spec, str(attr))
    named = [one for one in meant if one.name == attr]
    return pick_modality(named or meant, spec, f"variable {variable!r}").name


def _no_modality(variable: str, arrays: Mapping[str, xr.DataArray], spec: ModelSpec) -> RsEmbedError:
    offered = [one.name for one in spec.modalities]
    if bands.canonical_name(variable) == "DEM" and "DEM" in offered:
        return UnknownModelError(
            f"The variable {variable!r} may be the modality DEM, and does not say so.",
            found=", ".join(arrays),
            expected=", ".join(offered),
            remedy=f'modalities={{"DEM": "{variable}"}}',
        )
    if bands.canonical_name(variable) is not None:
        check_axes(arrays[variable], "ds")
        return SceneError(
            "The variables are bands, not modalities.",
            found=", ".join(arrays),
            expected=f"one variable for each modality ({', '.join(offered)})",
            remedy="xr.Dataset(scenes).rsembed.embed(...)",
        )
    return UnknownModelError(
        f"The variable {variable!r} is no modality of {spec.key}.",
        found=", ".join(arrays),
        expected=", ".join(offered),
        remedy=f'modalities={{"{offered[0]}": "{variable}"}}, or leave it out: ds.drop_vars("{variable}")',
    )


def _units(units: Any, chosen: Mapping[str, str]) -> dict[str, str]:
    """The stated units by modality."""
    if units is None:
        return {}
    if not isinstance(units, Mapping):
        raise OptionError(
            "units= must say which modality it means.",
            found=repr(units),
            expected=f'units={{"{next(iter(chosen))}": {units!r}}}',
        )
    modality_of = {variable: name for name, variable in chosen.items()} | {name: name for name in chosen}
    for name in units:
        one_of("units", name, modality_of, f"units= names {name!r}, which is not embedded.")
    return {modality_of[name]: str(unit) for name, unit in units.items()}


def _with_own_bands(
    arrays: Sequence[xr.DataArray], modalities: Sequence[str], spec: ModelSpec
) -> list[xr.DataArray]:
    """Each array with its band dim called band, and no bands but its own.

    A Dataset that is built from arrays whose band dims have the same name gives each of them the bands of all.
    """
    kinds = [named_modalities(spec, name)[0] for name in modalities]
    dims = [_band_dim(array, kind) for array, kind in zip(arrays, kinds, strict=True)]
    renamed = []
    for array, kind, dim in zip(arrays, kinds, dims, strict=True):
        if "band" not in array.dims:
            # A scalar coord, left by another variable that was one band of its scene.
            array = array.drop_vars("band", errors="ignore")
        if dim is None:
            array = array.expand_dims(band=list(kind.bands))
        elif dim != "band":
            array = array.rename({dim: "band"})
        renamed.append(_own_bands(array, kind, kinds) if dims.count(dim) > 1 else array)
    return renamed


def _band_dim(array: xr.DataArray, kind: Modality) -> str | None:
    """The dim that counts a modality's bands; None where one band has none."""
    others = [str(dim) for dim in array.dims if dim not in ("y", "x")]
    if "band" in others:
        return "band"
    named = [dim for dim in others if counts_bands(dim)]
    fitting = named or [dim for dim in others if array.sizes[dim] == len(kind.bands) > 1]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and len(kind.bands) == 1:
        return None
    raise SceneError(
        f"It is not clear which dim counts the bands of {kind.name}.",
        found=f"dims {tuple(array.dims)}",
        expected="a dim called band, or with band in its name",
        remedy=f'ds.rename({{"{(fitting or others or ["dim"])[0]}": "band_{kind.name.lower()}"}})',
    )


def _own_bands(array: xr.DataArray, kind: Modality, others: Sequence[Modality]) -> xr.DataArray:
    """Without the bands that other modalities brought along; names that are none's are left for the check of bands."""
    labels = band_labels(array)
    if labels is None:
        return array

    def owner(label: str) -> int:
        known = bands.canonical_name(label, kind.bands)
        if known in kind.bands:
            return kind.bands.index(str(known))
        foreign = any(bands.canonical_name(label, other.bands) in other.bands for other in others)
        return -1 if foreign else len(kind.bands)

    places = [owner(label) for label in labels]
    return array.isel(
        band=sorted((n for n, place in enumerate(places) if place >= 0), key=places.__getitem__)
    )


def _check_joined(array: xr.DataArray) -> None:
    """Raise where a Dataset joined coords that differ: it then holds the pixels of all grids, and gaps between them."""
    remedy = (
        'xr_rsembed.align({"S2L2A": s2, "S1RTC": s1}) reprojects onto the first, in place of xr.Dataset(...)'
    )
    try:
        check_grid(array)
    except GridError as error:
        raise GridError(
            "The Dataset's variables lie on no one regular grid: they may have come from different ones.",
            found=str(error).splitlines()[0],
            expected="one grid",
            remedy=remedy,
        ) from error
    stored, grid = stored_transform(array), scene_geobox(array)
    if stored is not None and abs(grid.affine.a) < 0.99 * abs(stored.a):
        raise GridError(
            "The Dataset's pixels are smaller than its transform says: its variables may have come from different "
            "grids.",
            found=f"pixels of {abs(grid.affine.a):g}",
            expected=f"{abs(stored.a):g}",
            remedy=f"{remedy}; where the pixels are right, ds.rio.write_transform()",
        )


def _on_one_grid(arrays: Sequence[xr.DataArray]) -> list[xr.DataArray]:
    """The arrays with the coords of the first."""
    first = arrays[0]
    for array in arrays:
        if not {"y", "x"} <= {*array.dims}:
            return [*arrays]  # the check of each array says what is wrong
    grid = scene_geobox(first)
    for array in arrays[1:]:
        other = scene_geobox(array)
        if other.shape != grid.shape or other.crs != grid.crs or not _same_pixels(grid, other):
            raise GridError(
                "The modalities lie on different grids.",
                found=f"{describe_grid(grid)} and {describe_grid(other)}",
                expected="one grid",
                remedy='ds = xr_rsembed.align({"S2L2A": s2, "S1RTC": s1}) reprojects onto the first',
            )
    coords = {dim: first[dim] for dim in ("y", "x") if dim in first.coords}
    return [first, *(array.assign_coords(coords) for array in arrays[1:])]


def _same_pixels(one: Any, other: Any) -> bool:
    """Whether the corners of two grids of one shape lie within a hundredth of a pixel."""
    far = np.abs(np.array(one.boundingbox.bbox) - np.array(other.boundingbox.bbox))
    return bool(far.max() <= 0.01 * abs(one.affine.a)) and one.affine.e * other.affine.e > 0


def _broadcast(inputs: list[Input]) -> list[Input]:
    """Give every scene the leading dims of all."""
    arrays = [item.scene.drop_vars("band", errors="ignore") for item in inputs]
    try:
        arrays = list(xr.align(*arrays, join="exact", exclude={"band"}))
    except ValueError as error:
        raise SceneError(
            "The modalities have different coords along a leading dim.",
            found=str(error).splitlines()[0],
            expected="the same times, or a modality without that dim, which then holds for all",
            remedy='bring them together first: s1.sel(time=s2.time, method="nearest").assign_coords(time=s2.time)',
        ) from error
    together = xr.broadcast(*arrays, exclude={"band"})
    leading = [dim for dim in together[0].dims if dim not in ("band", "y", "x")]
    return [
        replace(item, scene=array.transpose(*leading, "band", "y", "x"))
        for item, array in zip(inputs, together, strict=True)
    ]
