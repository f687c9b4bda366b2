"""The labelled, lazy face of the made land."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

from xr_rsembed.datasets import _render
from xr_rsembed.datasets._looks import LULC_CLASSES, S2_BANDS
from xr_rsembed.errors import OptionError

__all__ = ["synthetic_scene"]

Modality = Literal["S2L2A", "S2L1C", "S1GRD", "S1RTC", "DEM", "LULC"]

_L1C_BANDS = (*S2_BANDS[:10], "B10", *S2_BANDS[10:])
_BANDS: dict[str, tuple[str, ...]] = {
    "S2L2A": S2_BANDS,
    "S2L1C": _L1C_BANDS,
    "S1GRD": ("VV", "VH"),
    "S1RTC": ("VV", "VH"),
    "DEM": ("DEM",),
    "LULC": ("LULC",),
}
_UNITS = {
    "S2L2A": ("DN",),
    "S2L1C": ("DN",),
    "S1GRD": ("dB", "linear"),
    "S1RTC": ("dB", "linear"),
    "DEM": ("m",),
    "LULC": ("1",),
}
_MIDSUMMER = np.datetime64("2023-06-14")
_RESOLUTION = 10.0  # metres
_METRES_PER_DEGREE = 111_320.0


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
        return (len(self.dates), len(_BANDS[self.modality]), *self.size)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype({"S2": np.uint16, "LU": np.uint8}.get(self.modality[:2], np.float32))

    def __getitem__(self, key: tuple[slice | int, ...]) -> np.ndarray:
        picks = [range(n)[part] for n, part in zip(self.shape, key, strict=True)]
        picked = [range(p, p + 1) if isinstance(p, int) else p for p in picks]
        shape = tuple(len(p) for p in picks if not isinstance(p, int))
        if 0 in shape:
            return np.empty(shape, self.dtype)
        hull = [range(min(p), max(p) + 1) for p in picked]
        out = np.stack([self._window(self.dates[i], *hull[1:]) for i in hull[0]])
        if any(p != h for p, h in zip(picked, hull, strict=True)):  # a step, or backwards
            out = out[np.ix_(*[np.array(p) - h.start for p, h in zip(picked, hull, strict=True)])]
        return out.reshape(shape)

    def _window(self, date: np.datetime64, bands: range, rows: range, columns: range) -> np.ndarray:
        """Pixels of one date, shape (bands, rows, columns), put together from the tiles that they lie in."""
        tile = _render.TILE
        out = np.empty((len(bands), len(rows), len(columns)), self.dtype)
        for row in range(rows.start // tile, (rows.stop - 1) // tile + 1):
            y, y_out = _overlap(rows, row * tile, tile)
            for column in range(columns.start // tile, (columns.stop - 1) // tile + 1):
                x, x_out = _overlap(columns, column * tile, tile)
                out[:, y_out, x_out] = self._tile(date, row, column)[bands.start : bands.stop, y, x]
        if self.nodata_share > 0:
            out[:, self._beyond_the_swath(rows, columns)] = np.nan if self.dtype.kind == "f" else 0
        return out

    def _tile(self, date: np.datetime64, row: int, column: int) -> np.ndarray:
        day = int((date.astype("M8[D]") - date.astype("M8[Y]").astype("M8[D]")).astype(int)) + 1
        look = int(date.astype("M8[D]").astype(int))
        if self.modality == "DEM":
            return _render.dem(self.seed, row, column)
        if self.modality == "LULC":
            return _render.land_cover(self.seed, row, column)
        if self.modality.startswith("S2"):
            level = self.modality[2:]
            return _render.sentinel2(
                self.seed, row, column, day=day, look=look, level=level, clouds=self.clouds
            )
        flattened = self.modality == "S1RTC"
        return _render.sentinel1(
            self.seed, row, column, day=day, look=look, flattened=flattened, units=self.units
        )

    def _beyond_the_swath(self, rows: range, columns: range) -> np.ndarray:
        """Pixels to the right of a slanted swath edge that leaves out just the share asked for."""
        height, width = self.size
        share = self.nodata_share
        slant = min(0.22, 2 * min(share, 1 - share) * width / height)
        edge = width * (1 - share) + slant * (height / 2 - (np.array(rows) + 0.5))
        return np.array(columns)[None, :] + 0.5 > edge[:, None]


def _overlap(wanted: range, start: int, length: int) -> tuple[slice, slice]:
    """Where a span of positions and a tile's [start, start + length) meet: in the tile, and in the span."""
    low, high = max(wanted.start, start), min(wanted.stop, start + length)
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
    _one_of("modality", modality, tuple(_BANDS))
    pixels = _Pixels(
        modality=modality,
        size=_checked_size(size),
        dates=_checked_dates(time),
        seed=int(seed),
        nodata_share=_checked_share("nodata_share", nodata_share),
        clouds=_checked_share("clouds", 0.3 if clouds is True else float(clouds)),
        units=_one_of("units", units or _UNITS[modality][0], _UNITS[modality]),
    )
    data = pixels[(slice(None),) * 4] if chunks is None else _lazy(pixels, chunks)
    dims = ("time", "band", "y", "x")
    scene = xr.DataArray(
        data, dims=dims, coords=_grid_coords(pixels.size, crs), name=modality, attrs=_attrs(pixels)
    )
    scene = scene.assign_coords(band=list(_BANDS[modality]))
    if crs is not None:
        scene.encoding["grid_mapping"] = "spatial_ref"
    if time is None:
        return scene.isel(time=0)
    return scene.assign_coords(time=np.array(pixels.dates, dtype="M8[ns]"))


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
    if crs is None:
        y = -_RESOLUTION * (np.arange(size[0]) + 0.5)
        return {"y": y, "x": _RESOLUTION * (np.arange(size[1]) + 0.5)}
    from affine import Affine
    from odc.geo import CRS
    from odc.geo.geobox import GeoBox
    from odc.geo.xr import xr_coords

    crs = CRS(crs)
    step, left, top = (_RESOLUTION, 600_000.0, 5_200_020.0)
    if crs.geographic:
        step, left, top = (_RESOLUTION / _METRES_PER_DEGREE, 10.3, 46.9)
    box = GeoBox(size, Affine(step, 0, left, 0, -step, top), crs)
    renamed = {"latitude": "y", "longitude": "x"}  # one pair of names, whatever the CRS
    coords = xr_coords(box, crs_coord_name="spatial_ref")
    by_name = {renamed.get(str(name), str(name)): coord for name, coord in coords.items()}
    return {
        name: coord if name == "spatial_ref" else (name, coord.values, coord.attrs)
        for name, coord in by_name.items()
    }


def _attrs(pixels: _Pixels) -> dict[str, Any]:
    attrs: dict[str, Any] = {"units": pixels.units, "modality": pixels.modality, "seed": pixels.seed}
    attrs["long_name"] = f"synthetic {pixels.modality} scene"
    if pixels.dtype.kind == "f":
        attrs["_FillValue"] = np.float32(np.nan)
    else:
        attrs["_FillValue"] = 0
    if pixels.modality == "LULC":
        attrs["flag_values"] = np.array(list(LULC_CLASSES.values()), dtype=np.uint8)
        attrs["flag_meanings"] = " ".join(LULC_CLASSES)
        attrs["flag_colors"] = "#2b6cb0 #1f6b3a #e3c878 #c4281b #a59b8f #a8c08a"
    return attrs


def _one_of(option: str, value: Any, allowed: tuple[str, ...]) -> Any:
    if value not in allowed:
        raise OptionError(
            f"{option} has a value it cannot take.", found=repr(value), expected=f"one of {allowed}"
        )
    return value


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


def _checked_dates(time: Sequence[Any] | None) -> tuple[np.datetime64, ...]:
    if time is None:
        return (_MIDSUMMER,)
    try:
        dates = tuple(np.atleast_1d(np.asarray(time, dtype="M8[ns]")))
    except (TypeError, ValueError) as error:
        raise OptionError(
            "time must be dates.", found=repr(time), expected='such as ["2023-03-01", "2023-07-01"]'
        ) from error
    if not dates:
        raise OptionError("time is empty.", found=repr(time), expected="at least one date, or None")
    return dates


def _checked_share(option: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise OptionError(f"{option} must be a share.", found=value, expected="0 to 1")
    return float(value)
