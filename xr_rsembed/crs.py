"""The CRS and the transform that a scene names, wherever it names them."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import GridError

_MAPPING_ATTRS = {"crs_wkt", "spatial_ref", "grid_mapping_name", "GeoTransform", "gcps"}


def grid_mapping(scene: xr.DataArray) -> xr.DataArray | None:
    """The coord that describes the CRS: the one that the scene names, else ``spatial_ref``, else any that reads so."""
    named = str(scene.encoding.get("grid_mapping") or scene.attrs.get("grid_mapping") or "")
    others = [str(name) for name, coord in scene.coords.items() if coord.ndim == 0]
    for name in dict.fromkeys([named.partition(":")[0].strip(), "spatial_ref", *others]):
        if name in scene.coords and _MAPPING_ATTRS & scene.coords[name].attrs.keys():
            return scene.coords[name]
    return None


def stored_transform(scene: xr.DataArray) -> Any:
    """The affine that rioxarray or GDAL left beside the CRS, or stackstac in attrs; None where there is none."""
    from affine import Affine

    mapping = grid_mapping(scene)
    if mapping is not None and mapping.attrs.get("GeoTransform"):
        return Affine.from_gdal(*_six_numbers(str(mapping.attrs["GeoTransform"])))
    transform = scene.attrs.get("transform")
    if transform is None or isinstance(transform, str) or np.size(transform) < 6:
        return None
    return Affine(*map(float, tuple(transform)[:6]))


def checked_transform(scene: xr.DataArray) -> Any:
    """That affine; rotated grids, and files with ground control points alone, are refused."""
    mapping, stored = grid_mapping(scene), stored_transform(scene)
    unplaced = stored is None or (stored.is_rectilinear and stored.a == 1)
    if mapping is not None and "gcps" in mapping.attrs and unplaced:
        raise GridError(
            "The scene is not geocoded: it has ground control points alone.",
            found=f"gcps in {mapping.name}, no transform",
            expected="a grid",
            remedy='da.rio.reproject("EPSG:32632"), with the UTM zone that it lies in',
        )
    if stored is None:
        return None
    if abs(stored.b) > 1e-9 or abs(stored.d) > 1e-9:
        raise GridError(
            "The scene's grid is rotated or sheared.",
            found=f"transform {tuple(stored)[:6]}",
            expected="a north-up (or south-up) grid",
            remedy="da.odc.reproject(da.rio.crs, resolution=10)",
        )
    return stored


def _six_numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 6 or not np.isfinite(numbers).all():
        raise GridError(
            "The scene's GeoTransform cannot be read.",
            found=repr(text),
            expected="six numbers, such as '600000 10 0 5000000 0 -10'",
            remedy='del da.spatial_ref.attrs["GeoTransform"]; the coords say the same',
        )
    return numbers


def crs_of(scene: xr.DataArray) -> Any:
    """The CRS that the scene names anywhere, as odc-geo's; None where it names none."""
    from odc.geo.crs import CRS

    described = _described_crs(scene)
    if described is None:
        return None
    try:
        return CRS(described() if callable(described) else described)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise GridError(
            "The scene's CRS cannot be read.",
            found=f"{type(error).__name__}: {error}".splitlines()[0][:120],
            expected="one that odc-geo or rioxarray wrote",
            remedy='remove "grid_mapping" and "crs" from da.attrs, then da.rio.write_crs("EPSG:32632")',
        ) from error


def _described_crs(scene: xr.DataArray) -> Any:
    mapping = grid_mapping(scene)
    if mapping is not None:
        attrs = mapping.attrs
        if text := attrs.get("crs_wkt") or attrs.get("spatial_ref"):
            return text
        if "grid_mapping_name" in attrs:
            from pyproj import CRS

            return lambda: CRS.from_cf(attrs)
    for name in ("crs", "crs_wkt", "epsg", "proj:code", "proj:epsg"):
        coord = scene.coords.get(name)
        stated = scene.attrs.get(name) or (coord.item() if coord is not None and coord.ndim == 0 else None)
        if stated:
            return int(stated) if str(stated).isdigit() else stated
    units = {dim: str(scene[dim].attrs.get("units", "")) for dim in ("y", "x") if dim in scene.coords}
    degrees = units.get("y", "").startswith("degree") and units.get("x", "").startswith("degree")
    return 4326 if degrees and units["y"].endswith(("north", "N")) else None


def why_no_crs(scene: xr.DataArray) -> str:
    """Why a scene has no CRS, and what gives it one."""
    named = scene.encoding.get("grid_mapping") or scene.attrs.get("grid_mapping")
    if _described_crs(scene) is not None:
        return (
            f"The scene has the CRS {crs_name(crs_of(scene))}, but neither coords y and x nor a transform say where "
            "it lies: the embedding gets plain coords. Open it with its coords, or da.rio.write_transform(...)."
        )
    if named and str(named) not in scene.coords:
        return (
            f"The scene's grid mapping {str(named)!r} is not among its coords, so it has no CRS: the embedding gets "
            'plain coords. Open the file with decode_coords="all", or da.rio.write_crs("EPSG:32632").'
        )
    return (
        "The scene has no CRS: the embedding gets plain coords. Give it one with "
        'da.rio.write_crs("EPSG:32632") to have it georeferenced.'
    )


def crs_name(crs: Any) -> str:
    """A CRS in one short line, for messages.

    >>> from pyproj import CRS
    >>> crs_name(CRS("EPSG:32632")), crs_name(CRS("+proj=laea +lat_0=52 +lon_0=10")), crs_name(None)
    ('EPSG:32632', '+proj=laea +lat_0=52 +lon_0=10', 'no CRS')
    """
    if crs is None:
        return "no CRS"
    proj = getattr(crs, "proj", crs)
    code = proj.to_epsg()
    if code:
        return f"EPSG:{code}"
    text = proj.name if proj.name not in ("unknown", "unnamed", "") else proj.srs.removesuffix(" +type=crs")
    return str(text).splitlines()[0][:80]
