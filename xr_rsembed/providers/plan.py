"""From acquisitions to pixels: what a chunk of a STAC scene reads, and how it becomes one image."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from xr_rsembed.providers.base import SCL_CLOUDY
from xr_rsembed.providers.composite import compose, gap, lay_over, stored_as
from xr_rsembed.providers.readers import READ_THREADS, Asset, Source, read
from xr_rsembed.specs import Composite

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_FOOTPRINT_MARGIN_M = 500.0  # footprints are simplified; a chunk this near to one is read


@dataclass(frozen=True)
class Acquisition:
    """One item, as much of it as reading takes."""

    id: str
    when: datetime
    bands: tuple[Asset, ...]
    mask: Asset | None
    outline: Any  # shapely footprint in the grid's CRS, None where unknown

    def reaches(self, grid: GeoBox) -> bool:
        """Whether the item may have pixels on a grid."""
        from shapely.geometry import box

        if self.outline is None:
            return True
        margin = _FOOTPRINT_MARGIN_M / (111_000 if grid.crs is not None and grid.crs.geographic else 1)
        return bool(self.outline.distance(box(*grid.boundingbox.bbox)) <= margin)


@dataclass(frozen=True)
class ReadPlan:
    """How to make any part of the scene."""

    days: tuple[tuple[Acquisition, ...], ...]
    source: Source
    composite: Composite | None
    dtype: np.dtype
    nodata: float
    workers: int

    def read(self, dates: tuple[int, ...], bands: tuple[int, ...], grid: GeoBox) -> np.ndarray:
        """Shape (date, band, y, x); the date of a composite is its only one."""
        if self.composite is None:
            return np.stack([self._read_days(self.days[date : date + 1], bands, grid) for date in dates])
        return self._read_days(self.days, bands, grid)[None]

    def _read_days(
        self, days: Sequence[Sequence[Acquisition]], bands: tuple[int, ...], grid: GeoBox
    ) -> np.ndarray:
        """One image (band, y, x) of the days that reach a grid: band by band, so that one band's dates are held."""
        reaching = [[one for one in day if one.reaches(grid)] for day in days]
        reaching = [day for day in reaching if day]
        image = np.full((len(bands), *grid.shape.yx), self.nodata, dtype=self.dtype)
        if not reaching:
            return image
        pool = _readers(self.workers, os.getpid())
        cloudy = self._clouds(pool, reaching, grid)
        stacks = _one_ahead(
            deque(pool.submit(self._band, one, band, grid) for day in reaching for one in day)
            for band in bands
        )
        for position, reads in enumerate(stacks):
            stack = np.full((len(reaching), *grid.shape.yx), gap(self.dtype), dtype=self.dtype)
            for date_, day in enumerate(reaching):
                for one in day:
                    pixels = reads.popleft().result()  # laid down, it is held no longer
                    if one.id in cloudy:
                        pixels[cloudy[one.id]] = gap(self.dtype)
                    lay_over(stack[date_], pixels)
            image[position] = compose(stack, self.composite, self.nodata)
        return image

    def _band(self, one: Acquisition, band: int, grid: GeoBox) -> np.ndarray:
        return stored_as(read(one.bands[band], grid, self.source), self.dtype, self.nodata)

    def _clouds(
        self, pool: Executor, days: Sequence[Sequence[Acquisition]], grid: GeoBox
    ) -> dict[str, np.ndarray]:
        """Where each item is cloudy, by its classification."""
        source = replace(self.source, resampling="nearest")
        items = [one for day in days for one in day]
        reads = {one.id: pool.submit(read, one.mask, grid, source) for one in items if one.mask is not None}
        return {item: np.isin(reading.result(), SCL_CLOUDY) for item, reading in reads.items()}


@cache
def _readers(workers: int, process: int) -> ThreadPoolExecutor:
    """The threads of this process that read: more would not mean more connections. A fork gets its own."""
    return ThreadPoolExecutor(workers, thread_name_prefix=READ_THREADS)


def _one_ahead(batches: Iterator[deque[Future[np.ndarray]]]) -> Iterator[deque[Future[np.ndarray]]]:
    """The same batches, each started before the one before it is used: reading goes on while a median is made."""
    now: deque[Future[np.ndarray]] = deque()
    ahead = next(batches, None)
    try:
        while ahead is not None:
            now, ahead = ahead, next(batches, None)
            yield now
    finally:  # after a failed read: what has not begun need not
        for reading in now + (ahead if ahead is not None else deque()):
            reading.cancel()
