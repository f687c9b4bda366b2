"""A scene as a dask array that reads what is indexed, and no more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = ["Read", "lazy_scene"]

#: ``read(dates, bands, grid)`` gives shape (date, band, y, x): dates and bands by their positions.
Read: TypeAlias = "Callable[[tuple[int, ...], tuple[int, ...], GeoBox], np.ndarray]"


def lazy_scene(read: Read, grid: GeoBox, bands: int, dates: int | None, dtype: np.dtype, chunks: int) -> Any:
    """A dask array over a whole scene (date, band, y, x), or (band, y, x) where ``dates`` is None and date 0 is read.

    Dask hands an index of the array down to ``read``, so a window, a band or a date costs only itself.
    """
    import dask.array as da

    source = _Scene(read, grid, bands, dates, dtype)
    shape = (*([1] if dates is not None else []), bands, chunks, chunks)
    return da.from_array(source, chunks=shape, meta=np.empty((0,) * source.ndim, dtype))


@dataclass(frozen=True)
class _Scene:
    """What ``dask.array.from_array`` wants of an array."""

    read: Read
    grid: GeoBox
    bands: int
    dates: int | None
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (*((self.dates,) if self.dates is not None else ()), self.bands, *self.grid.shape.yx)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: tuple[int | slice, ...]) -> np.ndarray:
        date, band, rows, columns = key if self.dates is not None else (0, *key)
        height, width = self.grid.shape.yx
        if not all(_positions(size, part) for size, part in ((height, rows), (width, columns))):
            return np.broadcast_to(np.zeros((), self.dtype), self.shape)[key].copy()
        window = _hull(height, rows), _hull(width, columns)
        pixels = self.read(_positions(self.dates or 1, date), _positions(self.bands, band), self.grid[window])
        return pixels[_kept(date), _kept(band), _kept(rows, stepped=True), _kept(columns, stepped=True)]


def _positions(size: int, part: int | slice) -> tuple[int, ...]:
    return tuple(range(size)[part]) if isinstance(part, slice) else (part,)


def _hull(size: int, part: int | slice) -> slice:
    """The positions of a part of an axis, from the least to the greatest."""
    positions = _positions(size, part)
    return slice(min(positions), max(positions) + 1)


def _kept(part: int | slice, stepped: bool = False) -> int | slice:
    """What is left to take of an axis that was read: a single position, or the step that the read did not take."""
    if not isinstance(part, slice):
        return 0
    return slice(None, None, part.step if stepped else None)
