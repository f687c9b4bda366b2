"""From a user's DataArray to an input that an encoder may see: dims, dtype, modality, bands, nodata, units."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed import bands
from xr_rsembed.config import get_option
from xr_rsembed.errors import BandOrderError, RsEmbedWarning, SceneError, UnknownModelError
from xr_rsembed.georef import check_grid
from xr_rsembed.inputs.units import settle_units
from xr_rsembed.models.spec import Modality, ModelSpec
from xr_rsembed.normalize import Normalization

__all__ = [
    "OTHER_BAND_DIMS",
    "Input",
    "Pixels",
    "band_labels",
    "choose_modality",
    "named_modalities",
    "select_bands",
    "settle",
    "validate",
]

OTHER_BAND_DIMS = ("bands", "channel", "channels", "variable", "wavelength", "C", "c", "component")
_MODALITY_ALIASES = {
    "s2": ("S2L2A", "S2L1C"),
    "s2l2a": ("S2L2A",),
    "s2l1c": ("S2L1C",),
    "s1": ("S1RTC", "S1GRD"),
    "s1grd": ("S1GRD",),
    "s1rtc": ("S1RTC",),
    "dem": ("DEM",),
    "rgb": ("RGB",),
}


@dataclass(frozen=True)
class Pixels:
    """How a block reads raw pixels of one modality; small and picklable.

    Parameters
    ----------
    modality : str
    normalization : Normalization
    nodata : float, optional
        Besides NaN, which is always invalid.
    to_db : bool
        True where linear power is turned into dB first.
    guard : {"", "DN", "dB", "linear"}
        Units that were assumed, and that the block's values must bear out; empty where they were stated.
    """

    modality: str
    normalization: Normalization
    nodata: float | None = None
    to_db: bool = False
    guard: str = ""


@dataclass(frozen=True)
class Input:
    """One checked modality: the scene with dims (..., band, y, x), and how its pixels are read.

    ``units`` are those the user stated, and ``variable`` is its name in a Dataset; both empty otherwise.
    """

    scene: xr.DataArray
    bands: tuple[str, ...]
    pixels: Pixels
    units: str = ""
    variable: str = ""


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

    Parameters
    ----------
    scene : DataArray, dims (..., band, y, x)
    spec : ModelSpec
    modality : str, optional
        Needed where bands and attrs leave a choice.
    normalize : {"default", "none"}
    units : {"DN", "dB", "linear"}, optional
        Of the pixels, where attrs do not say or are wrong.
    options : mapping, optional
        The model options, complete; some change what a modality takes (fewer bands, a fixed scale).

    Returns
    -------
    Input

    Raises
    ------
    SceneError, GridError, BandOrderError, UnitsError, UnknownModelError
    """
    check_grid(scene, spec.resolution)
    scene = _with_band_dim(scene, modality)
    _check_dtype(scene)
    declared = choose_modality(scene, spec, modality)
    kind = spec.input(spec, declared.name, options or spec.options)
    if kind.bands != declared.bands:
        scene = _subset(scene, kind, declared)
    _check_bands(scene, kind, spec)
    scene = scene.transpose(..., "band", "y", "x")
    how = Normalization("none", source="none") if normalize == "none" else kind.normalization
    to_db, guard = (False, "") if how.kind == "none" else settle_units(scene, kind, units)
    return Input(scene, kind.bands, Pixels(kind.name, how, nodata_of(scene), to_db, guard), units or "")


def select_bands(scene: xr.DataArray, spec: ModelSpec, modality: str | None = None) -> xr.DataArray:
    """The scene with the model's bands, in its order and by its canonical names.

    Raises
    ------
    BandOrderError
        If a band is missing, doubled, or the bands have no names to go by.
    """
    check_grid(scene, spec.resolution)
    scene = _with_band_dim(scene, modality)
    labels = band_labels(scene)
    if modality is None and labels is not None:
        kind = _modality_by_names(labels, spec) or choose_modality(scene, spec, None)
    else:
        kind = choose_modality(scene, spec, modality)
    if labels is None:
        if scene.sizes["band"] != len(kind.bands):
            raise _unnamed(scene, kind)
        labels = list(kind.bands)
    positions = bands.reorder(labels, kind.bands)
    return scene.isel(band=positions).assign_coords(band=("band", list(kind.bands)))


def band_labels(scene: xr.DataArray) -> list[str] | None:
    """The scene's band names, or None where it has numbers alone (1..n, as rioxarray opens a file)."""
    number = scene.sizes["band"]
    named = scene.attrs.get("long_name")
    if "band" in scene.coords:
        labels = [str(label) for label in np.atleast_1d(scene["band"].values)]
        if not all(label.isdigit() for label in labels):
            return labels
    if isinstance(named, (tuple, list)) and len(named) == number:
        return [str(name) for name in named]
    return None  # a plain string is a title, such as "Elevation"


def named_modalities(spec: ModelSpec, word: str) -> list[Modality]:
    """The modalities that a word means: ``s1`` and ``s2`` may mean two.

    Raises
    ------
    UnknownModelError
    """
    offered = {one.name: one for one in spec.modalities}
    if word in offered:
        return [offered[word]]
    meant = [offered[name] for name in _MODALITY_ALIASES.get(word.lower(), ()) if name in offered]
    if not meant:
        raise UnknownModelError(
            f"{spec.key} takes no modality {word!r}.", found=repr(word), expected=", ".join(offered)
        )
    return meant


def choose_modality(scene: xr.DataArray, spec: ModelSpec, asked: str | None) -> Modality:
    """The modality that was asked for, or that the attrs name, or that the bands leave no doubt of."""
    offered = list(spec.modalities) if asked is None else named_modalities(spec, asked)
    if asked is not None and len(offered) == 1:
        return offered[0]
    for one in offered:
        if one.name == scene.attrs.get("modality"):
            return one
    labels = band_labels(scene)
    fitting = [one for one in offered if len(one.bands) == scene.sizes["band"]]
    if labels is not None:
        by_name = [one for one in fitting if _holds(labels, one)]
        fitting = by_name or fitting
    if not fitting:
        named = _nearest_by_names(labels, spec) if labels is not None else None
        if named is not None:
            # Right names, too many or too few: the band check says which.
            return named
        raise _unnamed(scene, spec.modalities[0])
    return settle(fitting, spec, f"{scene.sizes['band']} bands {labels or 'without names'}")


def settle(fitting: list[Modality], spec: ModelSpec, found: str) -> Modality:
    """One of the modalities that fit: where it makes no difference the first, else the one the user's option prefers.

    Raises
    ------
    SceneError
        Where that leaves a choice.
    """
    if _alike(fitting):
        return fitting[0]
    preferred = [
        one for one in fitting if spec.family == "terramind" and one.name == get_option("terramind.modality")
    ]
    if preferred:
        return preferred[0]
    raise SceneError(
        f"{spec.key} takes several modalities that fit, and the scene does not say its own.",
        found=f"{found}, attrs without 'modality'",
        expected=" or ".join(one.name for one in fitting),
        remedy=f'embed(..., modality="{fitting[0].name}") or da.attrs["modality"] = "{fitting[0].name}"',
    )


def nodata_of(scene: xr.DataArray) -> float | None:
    """The value that marks an invalid pixel besides NaN; None where the scene names none.

    Raises
    ------
    SceneError
        If the attr that should hold it is no number.
    """
    for name in ("_FillValue", "missing_value", "nodata"):
        value = scene.attrs.get(name)
        if value is None:
            continue
        try:
            number = float(np.ravel(value)[0])
        except (TypeError, ValueError, IndexError):
            raise SceneError(
                f"The attr {name} is no number.", found=repr(value), expected="a number, such as 0"
            ) from None
        return None if np.isnan(number) else number
    return None


def _with_band_dim(scene: xr.DataArray, modality: str | None) -> xr.DataArray:
    if "band" in scene.dims:
        return scene
    if (modality is not None and modality.upper() == "DEM") or scene.attrs.get("modality") == "DEM":
        return scene.expand_dims(band=["DEM"])
    others = [str(dim) for dim in scene.dims if dim in OTHER_BAND_DIMS]
    raise SceneError(
        "The scene has no dim band.",
        found=f"dims {tuple(scene.dims)}",
        expected="dims (..., band, y, x)",
        remedy=f'da.rename({{"{others[0]}": "band"}})'
        if others
        else 'da.expand_dims(band=["..."]) or ds.to_dataarray("band")',
    )


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


def _check_bands(scene: xr.DataArray, kind: Modality, spec: ModelSpec) -> None:
    labels = band_labels(scene)
    if labels is not None:
        bands.check_order(labels, kind.bands, remedy=f'da.rsembed.to_bands("{spec.key}")')
        return
    if scene.sizes["band"] != len(kind.bands):
        raise _unnamed(scene, kind)
    if len(kind.bands) > 1:
        warnings.warn(
            f"The scene's {len(kind.bands)} bands have no names; they are taken in the order {' '.join(kind.bands)}. "
            "Name them to be sure: da.assign_coords(band=[...]).",
            RsEmbedWarning,
            stacklevel=2,
        )


def _subset(scene: xr.DataArray, kind: Modality, declared: Modality) -> xr.DataArray:
    """Some of a modality's bands, from a scene that may hold all of them or just these."""
    labels = band_labels(scene)
    if labels is not None:
        return scene.isel(band=bands.reorder(labels, kind.bands))
    if scene.sizes["band"] == len(declared.bands):
        return scene.isel(band=[declared.bands.index(band) for band in kind.bands])
    return scene


def _unnamed(scene: xr.DataArray, kind: Modality) -> BandOrderError:
    return BandOrderError(
        f"The scene has {scene.sizes['band']} bands, which is no input of this model.",
        found=" ".join(band_labels(scene) or [f"{scene.sizes['band']} bands without names"]),
        expected=f"{kind.name}: {' '.join(kind.bands)}",
        remedy="name the bands, da.assign_coords(band=[...]), then da.rsembed.to_bands(model) picks and orders them",
    )


def _holds(labels: list[str], kind: Modality) -> bool:
    names = [bands.canonical_name(label, kind.bands) for label in labels]
    return all(names.count(band) == 1 for band in kind.bands)


def _modality_by_names(labels: list[str], spec: ModelSpec) -> Modality | None:
    """The modality whose bands are all among the labels; the one with the most bands where several are."""
    holding = [one for one in spec.modalities if _holds(labels, one)]
    largest = max((len(one.bands) for one in holding), default=0)
    widest = [one for one in holding if len(one.bands) == largest]
    return widest[0] if _alike(widest) else None


def _nearest_by_names(labels: list[str], spec: ModelSpec) -> Modality | None:
    """The modality that shares most bands with the labels; of equals the first."""
    shared = {
        one: sum(band in one.bands for band in {bands.canonical_name(label, one.bands) for label in labels})
        for one in spec.modalities
    }
    best = max(shared, key=lambda one: shared[one])
    return _modality_by_names(labels, spec) or (best if shared[best] else None)


def _alike(modalities: list[Modality]) -> bool:
    """Whether it makes no difference which of these is taken (TerraFM reads S1GRD and S1RTC alike)."""
    return len({(one.bands, one.units, one.normalization) for one in modalities}) == 1


def input_attrs(item: Input) -> dict[str, Any]:
    """What the embedding's attrs say of one input."""
    return {
        "modality": item.pixels.modality,
        "variable": item.variable,
        "units": item.units,
        "bands": list(item.bands),
        "normalization": item.pixels.normalization.source or item.pixels.normalization.kind,
    }
