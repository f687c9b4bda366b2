"""What each band is: labels, resolved once. Position proves nothing."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xr_rsembed import bands
from xr_rsembed.errors import BandOrderError, GridError, SceneError, warn
from xr_rsembed.inputs.cf import (
    NODATA_ATTRS,
    PACKING_ATTRS,
    held_values,
    nodata_attr,
    nodata_of,
    packing_of,
)
from xr_rsembed.inputs.units import stated_units
from xr_rsembed.models.spec import Modality

_SENSOR_ATTRS = (
    *("platform", "eo:platform", "constellation", "instruments", "sensor", "spacecraft_id", "collection"),
    *("landsat_product_id", "landsat_scene_id", "hls_product"),
)
_OTHER_BAND_DIMS = ("bands", "channel", "channels", "variable", "wavelength", "C", "c", "component")


def with_band_dim(scene: xr.DataArray, modality: str | None) -> xr.DataArray:
    """The scene with a dim band, which elevation may lack."""
    if isinstance(scene.indexes.get("band"), pd.MultiIndex):
        scene = scene.reset_index("band")
    if "band" in scene.dims:
        return scene
    if (modality is not None and modality.upper() == "DEM") or scene.attrs.get("modality") == "DEM":
        return scene.drop_vars("band", errors="ignore").expand_dims(band=["DEM"])
    others = [str(dim) for dim in scene.dims if _holds_bands(scene, dim)]
    raise SceneError(
        "The scene has no dim band.",
        found=f"dims {tuple(scene.dims)}",
        expected="dims (..., band, y, x)",
        remedy=f'da.rename({{"{others[0]}": "band"}})'
        if others
        else 'da.expand_dims(band=["..."]), with the name of the one band that it is',
    )


def band_labels(scene: xr.DataArray) -> list[str] | None:
    """The scene's band names; None where it has none, or only the numbers 1..n that rioxarray counts a file's by.

    Names in ``long_name`` count together with the integer labels that index them: they stay in the file's order when
    bands are selected.

    >>> da = xr.DataArray([0, 0], dims="band", coords={"band": [3, 1]}, attrs={"long_name": ("blue", "green", "red")})
    >>> band_labels(da)
    ['red', 'blue']
    """
    if "band" not in scene.coords:
        return _names_beside(scene)
    labels = [one.decode() if isinstance(one, bytes) else one for one in np.atleast_1d(scene["band"].values)]
    if not all(str(label).isdigit() for label in labels):
        return [str(label) for label in labels]
    numbers = [int(label) for label in labels]
    names = scene.attrs.get("long_name")
    if isinstance(names, (tuple, list)) and 1 <= min(numbers) <= max(numbers) <= len(names):
        described = [str(names[number - 1] or "").strip() for number in numbers]
        if all(described):
            return described
    if beside := _names_beside(scene):
        return beside
    if numbers != list(range(1, len(numbers) + 1)):
        raise BandOrderError(
            "The bands have numbers for labels, and nothing says what the numbers are.",
            found=" ".join(map(str, numbers)),
            expected="names, such as B2 or blue; or the numbers 1 to n in order",
            remedy='da.assign_coords(band=["B1", "B2", ...]), in the order that the bands are in',
        )
    return None


def _names_beside(scene: xr.DataArray) -> list[str] | None:
    """Names of the bands in another coord along them, such as stackstac's ``common_name``; else None."""
    for name, coord in scene.coords.items():
        if coord.dims == ("band",) and name != "band" and coord.dtype.kind in "OUS":
            labels = [str(label) for label in coord.values]
            known = [bands.canonical_name(label) for label in labels]
            if None not in known and len(set(known)) == len(known):
                return labels
    return None


def check_numbering(scene: xr.DataArray, kind: Modality) -> None:
    """Raise where bands have Landsat's numbers, by what attrs or coords say of the sensor, and a model Sentinel-2's."""
    labels = band_labels(scene) or []
    numbered = [label for label in labels if re.fullmatch(r"B\d+", label)]
    if not numbered or not {*kind.bands} <= {*bands.S2_L1C}:
        return
    for where in (scene.attrs, scene.coords):
        stated = [
            str(np.asarray(where[name]).tolist()) for name in where if str(name).lower() in _SENSOR_ATTRS
        ]
        found = next((text for text in stated if re.search("landsat|l30|oli", text, re.IGNORECASE)), None)
        if found is not None:
            raise BandOrderError(
                "The bands are numbered as Landsat's are, where B05 is near infrared; in Sentinel-2 it is red edge.",
                found=f"{' '.join(numbered)} of {found[:60]}",
                expected="names that mean one thing",
                remedy='da.assign_coords(band=["coastal", "blue", "green", "red", "nir08", "swir16", "swir22"]), by '
                "what each is; xr_rsembed.open_scene does so for HLS",
            )


def warn_of_position(kind: Modality) -> None:
    """Say that bands without names are taken in the model's order."""
    if len(kind.bands) > 1:
        warn(
            f"The scene's {len(kind.bands)} bands have no names; they are taken in the order {' '.join(kind.bands)}. "
            "Name them to be sure: da.assign_coords(band=[...])."
        )


def masked_by_band(scene: xr.DataArray) -> xr.DataArray:
    """The scene without its mask band, where it has one by name, and NaN where that is 0."""
    labels = band_labels(scene) or []
    masks = np.array([bands.is_mask(label) for label in labels], dtype=bool)
    if not masks.any():
        return scene
    named = scene.assign_coords(band=("band", labels))
    rest, valid = named.isel(band=~masks), (named.isel(band=masks) != 0).all("band")
    # Floats hold the mask; what eight bits say of the units goes along.
    return rest.where(valid).assign_attrs(
        {"units": "8-bit", **rest.attrs} if rest.dtype == "uint8" else rest.attrs
    )


def stack_bands(scenes: xr.DataArray | xr.Dataset | Mapping[Any, xr.DataArray]) -> xr.DataArray | None:
    """The variables of a Dataset as the bands of one scene, where they are bands; else None.

    So odc-stac gives scenes, and rioxarray with ``band_as_variable=True``. What each variable says of its own nodata,
    packing and units goes along.
    """
    if not isinstance(scenes, xr.Dataset):
        return None
    arrays = {name: array for name, array in scenes.data_vars.items() if {"y", "x"} <= {*array.dims}}
    if any(counts_bands(dim) for array in arrays.values() for dim in array.dims):
        return None
    if len(arrays) > 1 and all(re.fullmatch(r"band_\d+", str(name)) for name in arrays):
        numbers = {int(str(name).partition("_")[2]): array for name, array in arrays.items()}
        if not any(isinstance(array.attrs.get("long_name"), str) for array in arrays.values()):
            return _stacked(numbers, scenes.attrs)
    names = {name: _variable_band(name, array) for name, array in arrays.items()}
    if len(set(names.values())) < len(names):
        names = {name: str(name) for name in arrays}
    known = [name for name in names.values() if bands.canonical_name(name) not in (None, "DEM")]
    if not known:
        return None
    ordered = sorted(
        (name for name in arrays if not bands.is_auxiliary(names[name])),
        key=lambda name: bands.usual_place(names[name]),
    )
    check_times({names[name]: arrays[name] for name in ordered})
    return _stacked({names[name]: arrays[name] for name in ordered}, scenes.attrs)


def _holds_bands(scene: xr.DataArray, dim: Hashable) -> bool:
    """Whether a dim counts bands, by its own name or by those of its labels."""
    labels = scene[dim].values if dim in scene.coords else ()
    return counts_bands(dim) or any(
        isinstance(label, str) and bands.canonical_name(label) is not None for label in labels
    )


def counts_bands(dim: Hashable) -> bool:
    """Whether a dim counts bands, by its own name."""
    return "band" in str(dim).lower() or dim in _OTHER_BAND_DIMS


def _variable_band(name: Hashable, array: xr.DataArray) -> str:
    """A variable's name; that of the file's band where rioxarray has counted it."""
    described = array.attrs.get("long_name")
    counted = re.fullmatch(r"band_\d+", str(name)) is not None
    return described if counted and isinstance(described, str) and described.strip() else str(name)


def _stacked(arrays: Mapping[Any, xr.DataArray], attrs: Mapping[Any, Any]) -> xr.DataArray:
    """One array; what variables say alike is kept as it is, what differs is applied to each."""
    plain = {name: array.drop_vars("band", errors="ignore") for name, array in arrays.items()}
    stated = [(nodata_of(array), packing_of(array), stated_units(array, None)) for array in plain.values()]
    first = next(iter(plain.values()))
    common = {
        key: value
        for key, value in first.attrs.items()
        if key != "long_name" and all(_same(array.attrs.get(key), value) for array in plain.values())
    }
    nodata, packing, _ = stated[0]
    encoding = {}
    if packing.decoded:
        encoding = {"scale_factor": packing.scale, "add_offset": packing.offset}
    if len(set(stated)) > 1:
        if len({one[2] for one in stated}) > 1:
            raise SceneError(
                "The bands are in different units.",
                found=", ".join(
                    f"{name}: {one[2] or 'not said'}" for name, one in zip(plain, stated, strict=True)
                ),
                expected="one unit for all bands",
                remedy="convert the variables, or leave those out that are no bands: ds[['B02', 'B03', ...]]",
            )
        plain = {name: _unpacked(array) for name, array in plain.items()}
        nodata, common = (), {k: v for k, v in common.items() if k not in (*NODATA_ATTRS, *PACKING_ATTRS)}
        encoding = {"scale_factor": min(one[1].scale for one in stated)}
    scene = xr.Dataset(plain).to_dataarray("band")
    scene = scene.assign_coords(band=("band", list(plain)))
    scene.attrs = {**attrs, **common, **nodata_attr(nodata)}
    scene.encoding = encoding
    return scene


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(np.array_equal(one, other)) and type(one) is type(other)
    except (TypeError, ValueError):
        return False


def _unpacked(array: xr.DataArray) -> xr.DataArray:
    packing, nodata = packing_of(array), nodata_of(array)
    values = array.where(~array.isin(held_values(nodata, array.dtype))) if nodata else array
    return values if packing.decoded or not packing else values * packing.scale + packing.offset


def check_times(arrays: Mapping[str, xr.DataArray], *, mutual: bool = False) -> None:
    """Raise where variables in memory are NaN for whole steps that others have, as an outer join leaves them.

    With ``mutual`` only where each of two lacks what the other has: one modality may be missing at times.
    """
    dims = {dim for array in arrays.values() for dim in array.dims if not counts_bands(dim)}
    for dim in dims - {"y", "x"}:
        held = {
            name: frozenset(np.flatnonzero(~array.isnull().all({*array.dims} - {dim})))
            for name, array in arrays.items()
            if dim in array.dims and array.chunks is None and array.dtype.kind == "f"
        }
        differ = [
            (one, other)
            for one in held.values()
            for other in held.values()
            if one - other and (other - one or not mutual)
        ]
        if differ:
            raise GridError(
                f"The variables hold values at different steps of {dim}: xarray joined them on unequal coords.",
                found=", ".join(f"{name} at {len(steps)} of them" for name, steps in held.items()),
                expected=f"the same {dim} for all",
                remedy='join them with xr.merge([...], join="exact"), or keep the common ones: join="inner"',
            )
