"""``fetch``: from a place and a time to a labelled, lazy scene, whichever provider serves it."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed._aliases import aliases
from xr_rsembed.bands import canonical_name, reorder
from xr_rsembed.config import get_option
from xr_rsembed.errors import OptionError, ProviderError, known_name, one_of, whole_number
from xr_rsembed.georef import geobox_coords
from xr_rsembed.providers.base import MODALITIES, Provider, SceneRequest
from xr_rsembed.providers.grid import target_grid
from xr_rsembed.specs import SensorSpec
from xr_rsembed.times import TemporalSpec, Time

_PROVIDERS: Mapping[str, str] = {
    "stac": "xr_rsembed.providers.stac:Stac",
    "gee": "xr_rsembed.providers.gee:EarthEngine",
}
#: Others add theirs through this entry-point group: a name, and a class without arguments.
_ENTRY_POINTS = "xr_rsembed.providers"
_TILE = 224


@aliases(temporal="time", backend="provider")
def fetch(
    provider: str | Provider,
    spatial: Any = None,
    *,
    time: Time,
    bbox: Any = None,
    like: Any = None,
    modality: str | None = None,
    mask_clouds: bool = False,
    units: str | None = None,
    orbit: str | None = None,
    chunks: int | None = None,
    sensor: SensorSpec | None = None,
    **options: Any,
) -> xr.DataArray:
    """Open a scene, lazily.

    The names of :func:`~xr_rsembed.get_embedding` are taken too: ``temporal`` for ``time``, ``backend`` for
    ``provider``.

    Parameters
    ----------
    provider : {"stac", "gee", "auto"} or Provider
        "auto" is "stac", which needs no account.
    spatial : PointBuffer, BBox, bbox, shapely geometry, GeoDataFrame, DataArray or GeoBox
        The place; see :func:`.grid.target_grid`. A place without a grid gets the local UTM zone at 10 m, snapped to
        multiples of 160 m, so that neighbouring requests share one lattice of cells.
    time : str, TemporalSpec, date, or a pair of dates
        Such as ``"2022-06-01/2022-09-01"`` (the end is not included) or ``"2022-06"``.
    bbox, like : optional
        The place under a name that says what it is: (min lon, min lat, max lon, max lat) in degrees, or a scene or
        GeoBox whose grid to take. Give one of the three.
    modality : str
        ``S2L2A`` (the default), ``S2L1C``, ``S1GRD`` or ``S1RTC``, in any spelling (``"s2_l2a"``, ``"sentinel-1"``);
        ``"s2"`` and ``"s1"`` leave the product to the provider.
    mask_clouds : bool
        Take out cloud and shadow by the scene classification, pixel by pixel, before the composite.
    units : {"linear", "dB"}, optional
        Of Sentinel-1; by default linear power from STAC and from Earth Engine's float collection.
    orbit : {"ascending", "descending"}, optional
        Passes of Sentinel-1 to take; by default both, and a composite of both gives a warning.
    chunks : int, optional
        Side of a dask chunk in pixels; by default one block of embedding (option ``block_tiles``).
    sensor : SensorSpec, optional
        How scenes are chosen and put together. Any of its fields may also be given by name: ``cloudy_pct=10``,
        ``composite=None``, ``bands=("B4", "B3", "B2")``.
    **options
        Fields of ``sensor``, and what only the provider understands: ``catalog``, ``reader`` and more for
        ``stac`` (see :class:`.stac.StacOptions`), ``project``, ``url``, ``workers`` for ``gee``.

    Returns
    -------
    DataArray, dims (band, y, x), or (time, band, y, x) where ``composite`` is None
        Dask-backed, in raw units: Sentinel-2 uint16, harmonized DN, nodata 0; Sentinel-1 float32, nodata NaN.

    Raises
    ------
    OptionError, GridError, BandOrderError
        If the request cannot be understood.
    NoScenesError
        If no acquisition fits it.
    CatalogError, ProviderError, ProviderAuthError
        If the provider fails; computing the pixels may raise these too.

    Examples
    --------
    >>> fetch("stac", bbox=(9.0, 45.0, 9.2, 45.2), time="2022-06/2022-13")
    Traceback (most recent call last):
        ...
    xr_rsembed.errors.OptionError: The date cannot be read.
      found:    '2022-13'
      expected: ISO 8601: '2022', '2022-06', '2022-06-01' or with a time
    """
    found = find_provider(provider)
    named = {one.name for one in fields(SensorSpec)} & {*options}
    sensor = replace(sensor or SensorSpec(), **{name: options.pop(name) for name in named})
    kind = scene_modality(modality or sensor.modality or "S2L2A", provider)
    orbit = orbit or sensor.orbit
    for name, value, choices in (
        ("units", units, ("linear", "dB")),
        ("orbit", orbit, ("ascending", "descending")),
    ):
        if value is not None and not kind.startswith("S1"):
            raise OptionError(
                f"{name}= is for Sentinel-1.", found=f"{value!r} for {kind}", expected=f"{choices} for S1RTC"
            )
        one_of(name, value, (*choices, None))
    if mask_clouds and kind != "S2L2A":
        raise OptionError(
            "Only S2L2A has a classification to mask clouds by.", found=kind, remedy="mask_clouds=False"
        )
    span, offered = TemporalSpec.parse(time), MODALITIES[kind].bands
    bands = tuple(canonical_name(band) or str(band) for band in sensor.bands or offered)
    reorder(offered, bands, remedy=f"bands= some of {', '.join(offered)}")
    request = SceneRequest(
        grid=target_grid(spatial, bbox=bbox, like=like, scale_m=sensor.scale_m or 10.0),
        start=span.start,
        end=span.end,
        modality=kind,
        bands=bands,
        sensor=sensor,
        composite=sensor.composite,
        mask_clouds=mask_clouds,
        units=units,
        orbit=orbit,
        chunks=get_option("block_tiles") * _TILE
        if chunks is None
        else whole_number("chunks", chunks, at_least=1),
        options=options,
    )
    return _in_units(_as_asked(found.open(request), request, found), units)


def find_provider(provider: str | Provider) -> Provider:
    """The provider of this name, or the object itself where it is one."""
    provider = "stac" if provider == "auto" else provider  # the one that needs no account
    if provider == "tensor":  # rs-embed's
        raise OptionError(
            "Pixels at hand need no provider.",
            found="backend='tensor'",
            remedy='xr.DataArray(pixels, dims=("band", "y", "x")).rsembed.embed("terramind")',
        )
    if not isinstance(provider, str):
        if callable(getattr(provider, "open", None)):
            return provider
        raise OptionError("A provider has a method open(request).", found=type(provider).__name__)
    if provider in _PROVIDERS:
        return pkgutil.resolve_name(_PROVIDERS[provider])()
    others = {entry.name: entry for entry in entry_points(group=_ENTRY_POINTS)}
    known_name(provider, (*_PROVIDERS, *others), "There is no such provider.")
    return others[provider].load()()


def scene_modality(name: str, provider: str | Provider = "stac") -> str:
    """The modality of a scene by its name, or by ``"s1"`` and ``"s2"``.

    >>> scene_modality("s1", "stac"), scene_modality("s1", "gee"), scene_modality("s2l2a")
    ('S1RTC', 'S1GRD', 'S2L2A')
    """
    short = {"S2": "S2L2A", "S1": "S1GRD" if provider == "gee" else "S1RTC"}
    plain = re.sub("[^A-Z0-9]", "", str(name).upper()).replace("SENTINEL", "S")
    kind = short.get(plain, plain)
    return str(one_of("modality", kind, MODALITIES, f"No provider serves the modality {name!r}."))


def _as_asked(scene: Any, request: SceneRequest, provider: Provider) -> xr.DataArray:
    """The scene of a provider, which may be anybody's, where it has the labels that were asked for."""
    grid = geobox_coords(request.grid)
    if not isinstance(scene, xr.DataArray):
        found = type(scene).__name__
    elif scene.dims[-3:] != ("band", "y", "x") or scene.dtype != request.dtype or "units" not in scene.attrs:
        found = f"dims {scene.dims}, {scene.dtype}, units {scene.attrs.get('units')!r}"
    elif "band" not in scene.coords or scene["band"].values.tolist() != [*request.bands]:
        found = f"bands {scene['band'].values.tolist()}"
    elif any(not np.array_equal(scene[dim], grid[dim]) for dim in ("y", "x")):
        found = f"another grid, of {scene.sizes['y']} x {scene.sizes['x']} pixels"
    else:
        return scene
    raise ProviderError(
        f"The provider {type(provider).__name__} gave another scene than it was asked for.",
        found=found,
        expected=f"dims (band, y, x), {request.dtype}, units, bands {[*request.bands]}, and request.grid",
        remedy="build it with label_scene(request, pixels) of xr_rsembed.providers.base",
    )


def _in_units(scene: xr.DataArray, units: str | None) -> xr.DataArray:
    """Backscatter in the units wished for; power that is not positive has no decibels and becomes NaN."""
    if units is None or scene.attrs["units"] == units:
        return scene
    nodata = scene.attrs["nodata"]
    if units == "dB":
        changed = 10 * xr.apply_ufunc(np.log10, scene.where(scene > 0), dask="allowed")
    else:
        changed = 10 ** (scene / 10)
    valid = xr.apply_ufunc(np.isfinite, changed, dask="allowed") & (scene != nodata)
    return changed.where(valid, nodata).astype(scene.dtype).assign_attrs(scene.attrs, units=units)
