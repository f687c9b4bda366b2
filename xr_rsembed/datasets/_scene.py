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
from xr_rsembed.errors import OptionError, one_of, share

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
class _Pixels:
    """An array whose pixels are computed when they are read, so that a window costs the window alone.

    It has what ``dask.array.from_array`` asks for: shape, dtype, ndim, and slicing; axes (time, band, y, x).
    """

    modality: str
    size: tuple[int, int]
    dates: tuple[np.datetime64, ...]
    seed: int
    nodata_share: float
    clouds: float
    units: str

    ndim = 4

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.dates), len(_bands(self.modality)), *self.size)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype({"S2": np.uint16, "LU": np.uint8}.get(self.modality[:2], np.float32))

    def __getitem__(self, key: tuple[slice | int, ...]) -> np.ndarray:
        picks = [np.arange(n)[part] for n, part in zip(self.shape, key, strict=True)]
        if not all(pick.size for pick in picks):
            return np.empty([n for pick in picks for n in pick.shape], self.dtype)
        dates, bands, y, x = (np.atleast_1d(pick) for pick in picks)
        rows, columns = (range(axis.min(), axis.max() + 1) for axis in (y, x))
        out = np.stack([self._window(self.dates[i], rows, columns)[bands] for i in dates])
        out = out[:, :, (y - rows.start)[:, None], x - columns.start]
        return out.reshape([n for pick in picks for n in pick.shape])

    def _window(self, date: np.datetime64, rows: range, columns: range) -> np.ndarray:
        """Pixels of one date, shape (bands, rows, columns), put together from the tiles that they lie in."""
        day, year = date.astype("M8[D]"), date.astype("M8[Y]")
        when = {"day": (day - year).astype(int) + 1, "look": int(day.astype(int))}
        out = np.empty((self.shape[1], len(rows), len(columns)), self.dtype)
        for row in range(rows.start // TILE, (rows.stop - 1) // TILE + 1):
            y, y_out = _overlap(rows, row * TILE)
            for column in range(columns.start // TILE, (columns.stop - 1) // TILE + 1):
                x, x_out = _overlap(columns, column * TILE)
                tile = render(
                    self.modality, self.seed, row, column, **when, clouds=self.clouds, units=self.units
                )
                out[:, y_out, x_out] = tile[:, y, x]
        if self.nodata_share > 0:
            out[:, self._beyond_the_swath(rows, columns)] = np.nan if self.dtype.kind == "f" else 0
        return out

    def _beyond_the_swath(self, rows: range, columns: range) -> np.ndarray:
        """Pixels to the right of a slanted swath edge that leaves out just the share asked for."""
        height, width = self.size
        share = self.nodata_share
        slant = min(0.22, 2 * min(share, 1 - share) * width / height)
        edge = width * (1 - share) + slant * (height / 2 - (np.array(rows) + 0.5))
        return np.array(columns)[None, :] + 0.5 > edge[:, None]


def _overlap(wanted: range, start: int) -> tuple[slice, slice]:
    """Where a span of positions and the tile from ``start`` on meet: in the tile, and in the span."""
    low, high = max(wanted.start, start), min(wanted.stop, start + TILE)
    return slice(low - start, high - start), slice(low - wanted.start, high - wanted.start)


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
    pixels = _Pixels(
        modality=modality,
        size=_checked_size(size),
        dates=_checked_dates(_MIDSUMMER if time is None else time),
        seed=int(seed),
        nodata_share=share("nodata_share", nodata_share),
        clouds=share("clouds", 0.3 if clouds is True else clouds),
        units=one_of("units", units or _UNITS[modality][0], _UNITS[modality]),
    )
    scene = xr.DataArray(
        pixels[(slice(None),) * 4] if chunks is None else _lazy(pixels, chunks),
        dims=("time", "band", "y", "x"),
        coords={
            "time": np.array(pixels.dates),
            "band": list(_bands(modality)),
            **_grid_coords(pixels.size, crs),
        },
        name=modality,
        attrs=_attrs(pixels),
    )
    if crs is not None:
        scene.encoding["grid_mapping"] = "spatial_ref"
    return scene.isel(time=0, drop=True) if time is None else scene


def _lazy(pixels: _Pixels, chunks: int | tuple[Any, Any]) -> Any:
    import dask.array as da
    from dask.base import tokenize

    down, across = (chunks, chunks) if isinstance(chunks, int) else chunks
    return da.from_array(
        pixels,
        chunks=(1, -1, down, across),
        name=f"synthetic-scene-{tokenize(pixels, down, across)}",
        inline_array=True,
        fancy=False,
        meta=np.empty((0, 0, 0, 0), pixels.dtype),
    )


def _grid_coords(size: tuple[int, int], crs: Any) -> dict[str, Any]:
    """Coordinates of the cell centres, 10 m or the degrees of as much, called y and x whatever the CRS."""
    if crs is None:
        return {"y": -10.0 * (np.arange(size[0]) + 0.5), "x": 10.0 * (np.arange(size[1]) + 0.5)}
    from affine import Affine
    from odc.geo import CRS
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import xr_coords

    crs = CRS(crs)
    step, left, top = (10 / 111_320, 10.3, 46.9) if crs.geographic else (10.0, 600_000.0, 5_200_020.0)
    y, x, spatial_ref = xr_coords(
        GeoBox(size, Affine(step, 0, left, 0, -step, top), crs), "spatial_ref"
    ).values()
    return {"y": ("y", y.values, y.attrs), "x": ("x", x.values, x.attrs), "spatial_ref": spatial_ref}


def _attrs(pixels: _Pixels) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "units": pixels.units,
        "modality": pixels.modality,
        "seed": pixels.seed,
        "long_name": f"synthetic {pixels.modality} scene",
        "_FillValue": np.float32(np.nan) if pixels.dtype.kind == "f" else 0,
    }
    if pixels.modality == "LULC":
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
