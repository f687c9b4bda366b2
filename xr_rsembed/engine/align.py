"""Bring scenes of different grids onto one, by odc-geo's lazy reprojection."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import xarray as xr

from xr_rsembed.errors import GridError, OptionError, RsEmbedWarning, SceneError
from xr_rsembed.georef import check_grid, describe_grid, geobox_coords, scene_geobox

__all__ = ["align"]


def align(
    scenes: Mapping[str, xr.DataArray] | xr.Dataset,
    like: xr.DataArray | xr.Dataset | Any = None,
    resampling: str | Mapping[str, str] = "bilinear",
) -> xr.Dataset:
    """Reproject scenes onto one grid, as the variables of one Dataset.

    Parameters
    ----------
    scenes : mapping of str to DataArray, or Dataset
        Scenes (..., band, y, x) by name, such as ``{"S2L2A": s2, "S1RTC": s1, "DEM": dem}``.
    like : DataArray, Dataset or GeoBox, optional
        The grid wanted; that of the first scene by default.
    resampling : str or mapping of str to str
        ``nearest``, ``bilinear``, ``cubic``, ``average``, ...; by name where scenes differ.

    Returns
    -------
    Dataset
        Lazy where a scene is. Each band dim is called ``band_NAME``, so that every variable keeps its own. Pixels
        that a scene does not reach are nodata. A scene that lies on the grid already is taken as it is.

    Raises
    ------
    GridError
        If a scene has no CRS, an irregular grid, or nothing in common with the grid wanted.
    OptionError
        If the resampling is unknown.

    Examples
    --------
    >>> from xr_rsembed.datasets import synthetic_scene
    >>> s2 = synthetic_scene(size=(64, 64), chunks=64)
    >>> dem = synthetic_scene(size=(64, 64), modality="DEM", chunks=64)[:, ::3, ::3]
    >>> ds = align({"S2L2A": s2, "DEM": dem})
    >>> ds["DEM"].dims, ds["DEM"].shape
    (('band_DEM', 'y', 'x'), (1, 64, 64))
    """
    arrays = {
        str(name): array for name, array in scenes.items() if not isinstance(scenes, xr.Dataset) or array.dims
    }
    if not arrays:
        raise SceneError("There is no scene to align.", found="none", expected='{"S2L2A": s2, "S1RTC": s1}')
    how = dict(resampling) if isinstance(resampling, Mapping) else dict.fromkeys(arrays, resampling)
    if unknown := set(how) - set(arrays):
        raise OptionError(
            "resampling= names scenes that are not there.", found=sorted(unknown), expected=", ".join(arrays)
        )
    target = _grid(next(iter(arrays.values())) if like is None else like)
    moved = {}
    for name, array in arrays.items():
        there = _onto(array, target, how.get(name, "bilinear"), name)
        moved[name] = there.rename({"band": f"band_{name}"}) if "band" in there.dims else there
    return xr.Dataset(moved)


def _grid(like: Any) -> Any:
    from odc.geo.geobox import GeoBox

    grid = like if isinstance(like, GeoBox) else scene_geobox(like)
    if grid.crs is None:
        raise GridError(
            "The grid to align to has no CRS.",
            found="no CRS",
            expected="a georeferenced grid",
            remedy='da.rio.write_crs("EPSG:32632")',
        )
    return grid


def _onto(array: xr.DataArray, target: Any, resampling: str, name: str) -> xr.DataArray:
    import odc.geo.xr  # noqa: F401  (registers .odc)
    from rasterio.enums import Resampling

    if resampling not in Resampling.__members__:
        raise OptionError(
            "Unknown resampling.", found=repr(resampling), expected=", ".join(Resampling.__members__)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RsEmbedWarning)  # of pixel sizes and CRSs that are about to change
        check_grid(array)
    source = _grid(array)
    coords = geobox_coords(target)
    if (
        source.shape == target.shape
        and source.crs == target.crs
        and source.affine.almost_equals(target.affine)
    ):
        return array.assign_coords(coords)
    if not source.extent.to_crs(target.crs).intersects(target.extent):
        raise GridError(
            f"The scene {name!r} lies wholly outside the grid.",
            found=describe_grid(source),
            expected=f"something of {describe_grid(target)}",
            remedy="fetch it for the same place",
        )
    there = array.odc.reproject(target, resampling=resampling)
    return there.assign_coords(coords).assign_attrs(array.attrs)
