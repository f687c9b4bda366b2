"""From a product's stored numbers to DN = 10000 x reflectance, and from its grids to one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.georef import geobox_coords, scene_geobox

#: Pixels a side at 10 m: a multiple of 2 and 6, so that chunks of 20 m and 60 m bands end where those of 10 m do.
CHUNK = 1794


def harmonize(
    stored: xr.DataArray, nodata: float | None, scale: float = 1e-4, offset: float = 0.0
) -> xr.DataArray:
    """Stored numbers (reflectance = stored * scale + offset) as harmonized DN, uint16.

    0 where nothing was measured; a measured pixel is at least 1, however dark the offset makes it.

    >>> stored = xr.DataArray(np.array([0, 900, 1000, 3000], dtype="uint16"), dims="x")
    >>> harmonize(stored, nodata=0, offset=-0.1).values
    array([   0,    1,    1, 2000], dtype=uint16)
    """
    values = xr.apply_ufunc(
        _harmonized,
        stored,
        kwargs={"nodata": nodata, "factor": 1e4 * scale, "add": 1e4 * offset},
        dask="parallelized",
        output_dtypes=[np.uint16],
        keep_attrs=True,  # of the coords: spatial_ref holds the CRS there
    )
    return values.drop_attrs(deep=False)


def _harmonized(stored: np.ndarray, *, nodata: float | None, factor: float, add: float) -> np.ndarray:
    missing = np.zeros(stored.shape, dtype=bool) if nodata is None else stored == nodata
    if stored.dtype.kind == "f":
        missing = missing | ~np.isfinite(stored)
        stored = np.where(missing, 0, stored)
    values = np.rint(stored.astype("float32") * np.float32(factor) + np.float32(add))
    return np.where(missing, 0, np.clip(values, 1, 65535)).astype("uint16")


def join_bands(arrays: Mapping[str, xr.DataArray], **attrs: Any) -> xr.DataArray:
    """One scene (band, y, x) of harmonized bands (y, x), on the grid of the finest."""
    scene = on_one_grid(arrays).to_dataarray("band").chunk({"band": -1})
    given = {name: value for name, value in attrs.items() if value not in ("", [""])}
    return scene.assign_attrs(units="DN", nodata=0, _FillValue=0, **given).rename(attrs["modality"])


def on_one_grid(arrays: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """Lazy bands (y, x) as variables on the grid of the finest, by nearest neighbour."""
    import odc.geo.xr  # noqa: F401  (registers .odc)

    grids = {name: scene_geobox(array) for name, array in arrays.items()}
    finest = min(grids.values(), key=lambda grid: abs(grid.affine.a))
    moved = {}
    for name, array in arrays.items():
        grid = grids[name]
        factor = round(abs(grid.affine.a / finest.affine.a))
        fits = grid.crs == finest.crs and grid.shape[0] * factor == finest.shape[0]
        if fits and grid.zoom_to(shape=finest.shape).affine.almost_equals(finest.affine, 1e-6):
            chunks = tuple(tuple(factor * size for size in sizes) for sizes in array.chunks or ())
            data = array.data.map_blocks(_repeated, factor, chunks=chunks) if factor > 1 else array.data
            band = xr.DataArray(data, dims=("y", "x"), attrs=array.attrs)
        else:
            band = array.odc.reproject(finest, resampling="nearest")
            band = band.drop_vars([*band.coords])
        moved[name] = band.assign_coords(geobox_coords(finest))
    return xr.Dataset(moved)


def _repeated(block: np.ndarray, factor: int) -> np.ndarray:
    """Each pixel as often as finer ones lie in it."""
    return block.repeat(factor, 0).repeat(factor, 1)
