"""The made land as a labelled, lazy scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from xr_rsembed.bands import BANDS
from xr_rsembed.datasets._land import TILE
from xr_rsembed.datasets._looks import LULC
from xr_rsembed.datasets._sensors import render
from xr_rsembed.errors import OptionError, number, one_of
from xr_rsembed.gdal import LazyPixels
from xr_rsembed.georef import geobox_coords

Modality = Literal["S2L2A", "S2L1C", "S1GRD", "S1RTC", "DEM", "LULC"]
# Units, the default first, by modality.
_UNITS: dict[str, tuple[str, ...]] = {
    "S2L2A": ("DN",),
    "S2L1C": ("DN",),
    "S1GRD": ("dB", "linear"),
    "S1RTC": ("dB", "linear"),
    "DEM": ("m",),
    "LULC": ("1",),
}
_MIDSUMMER = ("2023-06-14",)


def _bands(modality: str) -> tuple[str, ...]:
    return BANDS.get(modality, (modality,))


@dataclass(frozen=True)
class _View:
    """What a scene shows of the land; its pixels are computed when they are read, so a window costs itself alone."""

    modality: str
    size: tuple[int, int]
    dates: tuple[np.datetime64, ...]
    seed: int
    nodata_share: float
    clouds: float
    units: str

    @property
    def dtype(self) -> np.dtype:
        return np.dtype({"S2": np.uint16, "LU": np.uint8}.get(self.modality[:2], np.float32))

    def pixels(self) -> LazyPixels:
        """With axes (time, band, y, x)."""
        shape = (len(self.dates), len(_bands(self.modality)), *self.size)
        return LazyPixels(self._read, shape, self.dtype)

    def _read(
        self, dates: tuple[int, ...], bands: tuple[int, ...], rows: slice, columns: slice
    ) -> np.ndarray:
        return np.stack([self._window(self.dates[i], rows, columns)[list(bands)] for i in dates])

    def _window(self, date: np.datetime64, rows: slice, columns: slice) -> np.ndarray:
        """Pixels of one date, shape (bands, rows, columns), cut from the tiles that they lie in."""
        day, year = date.astype("M8[D]"), date.astype("M8[Y]")
        when = {"day": (day - year).astype(int) + 1, "look": int(day.astype(int))}
        top, left = rows.start // TILE, columns.start // TILE
        down, across = -(-rows.stop // TILE) - top, -(-columns.stop // TILE) - left
        whole = np.empty((len(_bands(self.modality)), down * TILE, across * TILE), self.dtype)
        for row, column in np.ndindex(down, across):
            whole[:, row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = render(
                self.modality,
                self.seed,
                top + row,
                left + column,
                **when,
                clouds=self.clouds,
                units=self.units,
            )
        y, x = np.arange(rows.start, rows.stop), np.arange(columns.start, columns.stop)
        out = whole[:, y[0] - top * TILE :, x[0] - left * TILE :][:, : len(y), : len(x)]
        if self.nodata_share > 0:
            out[:, self._beyond_the_swath(y, x)] = np.nan if self.dtype.kind == "f" else 0
        return out

    def _beyond_the_swath(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Pixels to the right of a slanted swath edge that leaves out just the share asked for."""
        height, width = self.size
        share = self.nodata_share
        slant = min(0.22, 2 * min(share, 1 - share) * width / height)
        edge = width * (1 - share) + slant * (height / 2 - (y + 0.5))
        return x[None, :] + 0.5 > edge[:, None]


def synthetic_scene(
    size: tuple[int, int] = (1120, 1120),
    modality: Modality = "S2L2A",
    time: Sequence[Any] | None = None,
    *,
    chunks: int | tuple[Any, Any] | None = 2048,
    seed: int = 0,
    crs: Any = "EPSG:32632",
    nodata_share: float = 0.0,
    clouds: bool | float = False,
    units: Literal["dB", "linear"] | None = None,
) -> xr.DataArray:
    """Make a scene of land that does not exist, with fields, rivers, towns, forest and roads.

    Every pixel is a function of its own position and the seed: the same whatever the chunks and whatever the
    size of the scene, and of the same land in every modality. A lazy scene costs nothing until computed.

    Parameters
    ----------
    size : (int, int)
        Pixels down and across; a pixel is 10 m.
    modality : {"S2L2A", "S2L1C", "S1GRD", "S1RTC", "DEM", "LULC"}
        Sentinel-2 as uint16 DN (harmonized, 10000 = reflectance 1), Sentinel-1 as float32 backscatter,
        height as float32 metres, or land-cover classes as uint8: the truth behind the other modalities.
    time : sequence of dates, optional
        Adds a leading ``time`` dim, with crops and leaves of each season; without it, one scene in mid June.
    chunks : int, pair of ints or of tuples of ints, or None
        Pixels of a dask chunk down and across (all bands, one date); None gives numpy, computed at once.
    seed : int
        Which land.
    crs : anything odc-geo reads, or None
        CRS of the grid; 10 m or the degrees of as much. None leaves the scene without one.
    nodata_share : float
        Share of the scene beyond the swath's edge, on the right: 0 in Sentinel-2 and LULC, NaN elsewhere.
    clouds : bool or float
        Share of a Sentinel-2 scene under clouds, which also cast shadows; True means 0.3.
    units : {"dB", "linear"}, optional
        Of Sentinel-1; dB by default.

    Returns
    -------
    DataArray, dims ([time,] band, y, x)
        With canonical band names, cell centres, ``spatial_ref``, and attrs ``units``, ``modality`` and
        ``_FillValue`` (LULC: ``flag_values`` and ``flag_meanings``).

    Raises
    ------
    OptionError
        For a value that cannot be used.

    Examples
    --------
    >>> scene = synthetic_scene((100_000, 100_000))  # 240 GB that nobody has computed
    >>> scene.sizes["band"], scene.dtype
    (12, dtype('uint16'))
    >>> scene.sel(band="B8")[50_000:50_002, 70_000:70_002].values.shape
    (2, 2)
    """
    one_of("modality", modality, _UNITS)
    view = _View(
        modality=modality,
        size=_checked_size(size),
        dates=_checked_dates(_MIDSUMMER if time is None else time),
        seed=int(seed),
        nodata_share=number("nodata_share", nodata_share, 0.0, 1.0),
        clouds=number("clouds", 0.3 if clouds is True else clouds or 0.0, 0.0, 1.0),
        units=one_of("units", units or _UNITS[modality][0], _UNITS[modality]),
    )
    scene = xr.DataArray(
        view.pixels()[(slice(None),) * 4] if chunks is None else _lazy(view, chunks),
        dims=("time", "band", "y", "x"),
        coords={
            "time": np.array(view.dates),
            "band": list(_bands(modality)),
            **geobox_coords(_grid(view.size, crs)),
        },
        name=modality,
        attrs=_attrs(view),
    )
    if crs is not None:
        scene.encoding["grid_mapping"] = "spatial_ref"
    return scene.isel(time=0, drop=True) if time is None else scene


def _lazy(view: _View, chunks: int | tuple[Any, Any]) -> Any:
    import dask.array as da
    from dask.base import tokenize

    down, across = (chunks, chunks) if isinstance(chunks, int) else chunks
    return da.from_array(
        view.pixels(),
        chunks=(1, -1, down, across),
        name=f"synthetic-scene-{tokenize(view, down, across)}",
        inline_array=True,
        fancy=False,
        meta=np.empty((0, 0, 0, 0), view.dtype),
    )


def _grid(size: tuple[int, int], crs: Any) -> Any:
    """The grid of the land: pixels of 10 m, or the degrees of as much."""
    from affine import Affine
    from odc.geo import CRS
    from odc.geo.geobox import GeoBox

    step, left, top = 10.0, 0.0, 0.0
    if crs is not None:
        crs = CRS(crs)
        step, left, top = (10 / 111_320, 10.3, 46.9) if crs.geographic else (10.0, 600_000.0, 5_200_020.0)
    return GeoBox(size, Affine(step, 0, left, 0, -step, top), crs)


def _attrs(view: _View) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "units": view.units,
        "modality": view.modality,
        "seed": view.seed,
        "long_name": f"synthetic {view.modality} scene",
        "_FillValue": np.float32(np.nan) if view.dtype.kind == "f" else 0,
    }
    if view.modality == "LULC":
        values, colors = zip(*LULC.values(), strict=True)
        attrs["flag_values"] = np.array(values, dtype=np.uint8)
        attrs |= {"flag_meanings": " ".join(LULC), "flag_colors": " ".join(colors)}
    return attrs


def _checked_size(size: Any) -> tuple[int, int]:
    try:
        down, across = (int(n) for n in size)
    except (TypeError, ValueError):
        down = across = 0
    if down < 1 or across < 1:
        raise OptionError(
            "size must be two whole numbers.", found=repr(size), expected="(y, x), each at least 1"
        )
    return down, across


def _checked_dates(time: Sequence[Any]) -> tuple[np.datetime64, ...]:
    try:
        dates = tuple(np.atleast_1d(np.asarray(time, dtype="M8[ns]")))
    except (TypeError, ValueError):
        dates = ()
    if not dates:
        raise OptionError(
            "time must be dates.", found=repr(time), expected='such as ["2023-03-01", "2023-07-01"]'
        )
    return dates
