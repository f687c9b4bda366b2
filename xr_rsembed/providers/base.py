"""What every provider is asked, and what it must give back.

A provider is a class with one method, ``open(request) -> DataArray``. What differs between STAC and Earth
Engine ends there: the same request gives the same grid, bands, dtype, nodata and units from either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import xarray as xr

from xr_rsembed.bands import BANDS
from xr_rsembed.errors import warn
from xr_rsembed.georef import geobox_coords
from xr_rsembed.specs import Composite, SensorSpec

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

#: Classes of Sentinel-2's scene classification that ``mask_clouds`` takes out: shadow, two of cloud, cirrus.
SCL_CLOUDY = (3, 8, 9, 10)


@dataclass(frozen=True)
class SceneFormat:
    """What a scene of one modality looks like, whoever serves it."""

    bands: tuple[str, ...]
    dtype: str
    nodata: float
    units: str


MODALITIES: Mapping[str, SceneFormat] = {
    "S2L2A": SceneFormat(BANDS["S2L2A"], "uint16", 0, "DN"),
    "S2L1C": SceneFormat(BANDS["S2L1C"], "uint16", 0, "DN"),
    "S1GRD": SceneFormat(BANDS["S1GRD"], "float32", float("nan"), "linear"),
    "S1RTC": SceneFormat(BANDS["S1RTC"], "float32", float("nan"), "linear"),
}


@dataclass(frozen=True)
class SceneRequest:
    """One request for a scene, complete: a provider needs to look nothing else up.

    Parameters
    ----------
    grid : odc.geo.geobox.GeoBox
        The result has exactly this grid, in any projected or geographic CRS, always north up.
    start, end : datetime
        Aware, UTC; acquisitions with ``start <= t < end``.
    modality : str
        A key of :data:`MODALITIES`.
    bands : tuple of str
        Canonical names, in the order of the result.
    sensor : SensorSpec
        Collection, cloud limit, fill value, Sentinel-1 rules. Its ``composite`` and ``bands`` are decided in
        the fields here; read those.
    composite : {"median", "mean", "first", "last"} or None
        None: dims ``(time, band, y, x)``, one image per solar day, at the time of its earliest acquisition.
        A median of an even number of values is the mean of the middle two; where the dtype is an
        integer, a half rounds up. ``first`` and ``last``: the earliest and the
        latest valid pixel.
    mask_clouds : bool
        Take out the pixels whose SCL class is in :data:`SCL_CLOUDY` before the composite.
    units : str or None
        Units wished for ("dB" or "linear"). A provider may serve them or its own and say which in
        ``attrs["units"]``; ``fetch`` converts the rest of the way.
    orbit : {"ascending", "descending"}, optional
        Of Sentinel-1; None takes both.
    chunks : int
        Side of a dask chunk in pixels; a chunk holds all bands and, without a composite, one date.
    options : mapping
        What only this provider understands, such as ``catalog`` and ``reader`` (stac), ``project`` (gee).
    """

    grid: GeoBox
    start: datetime
    end: datetime
    modality: str
    bands: tuple[str, ...]
    sensor: SensorSpec = field(default_factory=SensorSpec)
    composite: Composite | None = "median"
    mask_clouds: bool = False
    units: str | None = None
    orbit: str | None = None
    chunks: int = 1792
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the result."""
        return np.dtype(MODALITIES[self.modality].dtype)

    @property
    def cloud_limit(self) -> float | None:
        """Percent of cloud that optical scenes lie below; None takes all."""
        return self.sensor.cloudy_pct if self.modality.startswith("S2") else None

    @property
    def nodata(self) -> float:
        """The nodata value of the result."""
        fill = self.sensor.fill_value
        return MODALITIES[self.modality].nodata if fill is None else fill


class Provider(Protocol):
    """Where scenes come from."""

    def open(self, request: SceneRequest) -> xr.DataArray:
        """Describe the scene lazily: nothing but metadata is read until it is computed.

        Build the result with :func:`label_scene`, which holds the contract.
        """
        ...


def solar_day(when: datetime, grid: GeoBox) -> date:
    """The local solar date of an acquisition at the centre of a grid: what ``composite=None`` groups by."""
    lon = float(grid.geographic_extent.centroid.points[0][0])
    return (when.astimezone(UTC) + timedelta(hours=lon / 15)).date()


def radar_items(
    request: SceneRequest, search: Callable[[bool], list[Any]], orbit: Callable[[Any], str]
) -> tuple[list[Any], dict[str, int | str]]:
    """Sentinel-1's items by ``search(wide)``, and attrs that say how: the wide mode's alone, or all where it has none.

    A composite that mixes orbits gives a warning.
    """
    wide = request.sensor.s1_require_iw
    items = search(wide)
    relaxed = wide and not items and request.sensor.s1_relax_iw_on_empty
    items = search(False) if relaxed else items
    orbits = sorted({orbit(item) for item in items} - {""})
    if len(orbits) > 1 and request.composite is not None:
        warn(
            f"The {request.composite} mixes ascending and descending passes, which see slopes from two sides: "
            'orbit="ascending" or orbit="descending" takes one.'
        )
    attrs: dict[str, int | str] = {
        "s1_iw_requested": int(wide),
        "s1_iw_applied": int(wide and not relaxed),
        "s1_iw_relaxed_on_empty": int(relaxed),
        "s1_relax_iw_on_empty": int(request.sensor.s1_relax_iw_on_empty),
    }
    return items, attrs | ({"s1_orbit": "mixed" if len(orbits) > 1 else orbits[0]} if orbits else {})


def label_scene(
    request: SceneRequest,
    pixels: Any,
    *,
    times: Sequence[datetime] | None = None,
    units: str | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Put the labels of the contract on a provider's pixels.

    Parameters
    ----------
    request : SceneRequest
    pixels : array, shape (band, y, x), or (time, band, y, x) where ``times`` is given
        Usually a dask array, of ``request.dtype``.
    times : sequence of datetime, optional
        Aware, UTC, ascending; one per solar day.
    units : str, optional
        Of the pixels; by default the modality's raw units.
    attrs : mapping, optional
        What the provider says of itself: ``provider``, ``catalog``, ``collection``, ``item_ids`` (list of
        str), ``dates`` (list of ISO dates), ``covered`` (share of the grid under footprints), ``s1_...``.
        Plain scalars, strings and lists; flags as 0 and 1, since NetCDF knows no bool; never a signed URL.

    Returns
    -------
    DataArray
        Named after the modality.
    """
    coords = geobox_coords(request.grid)
    coords["band"] = list(request.bands)
    dims: tuple[str, ...] = ("band", "y", "x")
    if times is not None:
        dims = ("time", *dims)
        coords["time"] = np.array(
            [t.astimezone(UTC).replace(tzinfo=None) for t in times], dtype="datetime64[ns]"
        )
    nodata = request.dtype.type(request.nodata)
    described = {
        "units": units or MODALITIES[request.modality].units,
        "modality": request.modality,
        "nodata": nodata.item(),
        "_FillValue": nodata.item(),
        "composite": request.composite or "none",
        "mask_clouds": int(request.mask_clouds),
        "time_start": request.start.isoformat(),
        "time_end": request.end.isoformat(),
        **({} if request.cloud_limit is None else {"cloud_limit": float(request.cloud_limit)}),
        **(attrs or {}),
    }
    return xr.DataArray(pixels, dims=dims, coords=coords, name=request.modality, attrs=described)
