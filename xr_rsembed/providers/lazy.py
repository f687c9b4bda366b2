"""A scene as a dask array that reads what is indexed, and no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xarray as xr

from xr_rsembed.gdal import LazyPixels
from xr_rsembed.providers.base import SceneRequest, label_scene, solar_day
from xr_rsembed.providers.grid import covered

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

#: ``read(dates, bands, grid)`` gives shape (date, band, y, x): dates and bands by their positions.
Read: TypeAlias = "Callable[[tuple[int, ...], tuple[int, ...], GeoBox], np.ndarray]"


def lazy_scene(read: Read, grid: GeoBox, bands: int, dates: int | None, dtype: np.dtype, chunks: int) -> Any:
    """A dask array over a whole scene (date, band, y, x), or (band, y, x) where ``dates`` is None and date 0 is read.

    Dask hands an index of the array down to ``read``, so a window, a band or a date costs only itself.
    """
    import dask.array as da

    days = () if dates is None else (dates,)
    source = LazyPixels(partial(_read_part, read, grid), (*days, bands, *grid.shape.yx), dtype)
    parts = (*(1 for _ in days), bands, chunks, chunks)
    return da.from_array(source, chunks=parts, meta=np.empty((0,) * source.ndim, dtype))


def _read_part(read: Read, grid: GeoBox, *place: Any) -> np.ndarray:
    *dates, bands, rows, columns = place
    pixels = read(dates[0] if dates else (0,), bands, grid[rows, columns])
    return pixels if dates else pixels[0]


def by_solar_day(acquired: Sequence[Any], grid: GeoBox) -> list[tuple[Any, ...]]:
    """What was acquired (``when``), in order of time, grouped by local solar date."""
    return [tuple(day) for _, day in groupby(acquired, key=lambda one: solar_day(one.when, grid))]


def scene_of_days(
    request: SceneRequest,
    read: Read,
    days: Sequence[Sequence[Any]],
    attrs: Mapping[str, Any],
    *,
    side: int | None = None,
    units: str | None = None,
) -> xr.DataArray:
    """The labelled scene of the days' acquisitions, each with ``id``, ``when`` and ``outline``."""
    acquired = [one for day in days for one in day]
    times = [day[0].when for day in days] if request.composite is None else None
    dates = None if times is None else len(times)
    pixels = lazy_scene(read, request.grid, len(request.bands), dates, request.dtype, side or request.chunks)
    described = {
        "item_ids": [one.id for one in acquired],
        "dates": sorted({one.when.date().isoformat() for one in acquired}),
        **covered(request.grid, [one.outline for one in acquired]),
    }
    return label_scene(request, pixels, times=times, units=units, attrs={**attrs, **described})
