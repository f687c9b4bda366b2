"""From a scene's grid to the grid of its cells, by odc-geo."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import GridError, RsEmbedWarning, SceneError

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

__all__ = [
    "cell_geobox",
    "check_grid",
    "describe_grid",
    "geobox_coords",
    "scene_geobox",
    "stored_transform",
    "subgrid",
]

NATIVE_RESOLUTION = 10.0  # metres a pixel that the models were trained on

# Names that other tools give the two axes; the error offers the rename.
_OTHER_Y = ("lat", "latitude", "northing", "Y", "row", "rows", "height")
_OTHER_X = ("lon", "longitude", "easting", "X", "col", "cols", "column", "width")

_OUTPUT_DIMS = ("D", "layer", "modality", "tile_y", "tile_x")


def check_grid(scene: xr.DataArray, resolution: float = NATIVE_RESOLUTION) -> None:
    """Raise unless the scene has y and x dims on a regular, unrotated grid; warn of what may surprise.

    Parameters
    ----------
    scene : DataArray
    resolution : float
        Metres a pixel that the model was trained on.

    Raises
    ------
    SceneError
        If y or x is not a dim.
    GridError
        If the coords are irregular or the transform is rotated.
    """
    _check_dims(scene)
    for dim in ("y", "x"):
        if dim in scene.coords:
            _check_regular(np.asarray(scene[dim].values), dim)
    _check_unrotated(scene)
    geobox = scene_geobox(scene)
    if geobox.crs is None:
        warnings.warn(
            "The scene has no CRS: the embedding gets plain coords. Give it one with "
            'da.rio.write_crs("EPSG:32632") to have it georeferenced.',
            RsEmbedWarning,
            stacklevel=2,
        )
        return
    if geobox.crs.geographic:
        warnings.warn(
            f"The scene's CRS {geobox.crs} is geographic: its pixels are not square metres and a cell's size on the "
            'ground varies with latitude. Reproject first with da.odc.reproject("utm", resolution=10).',
            RsEmbedWarning,
            stacklevel=2,
        )
        return
    metres = abs(geobox.resolution.x) * _metres_per_unit(geobox)
    if not resolution / 2 <= metres <= resolution * 2:
        warnings.warn(
            f"The scene has pixels of {metres:g} m; the model was trained on {resolution:g} m. A patch then "
            f"spans {metres / resolution:g} times the ground that it should, and embeddings may mean less. "
            f"Resample with da.odc.reproject(da.odc.crs, resolution={resolution:g}) if the source allows.",
            RsEmbedWarning,
            stacklevel=2,
        )


def scene_geobox(scene: xr.DataArray) -> GeoBox:
    """The scene's grid as an odc-geo GeoBox, on pixel numbers where it has no coords.

    Parameters
    ----------
    scene : DataArray, dims (..., y, x)

    Returns
    -------
    odc.geo.geobox.GeoBox
        Shape (y, x); ``crs`` is None where the scene names none.

    Examples
    --------
    >>> scene = xr.DataArray(np.zeros((4, 6)), dims=("y", "x"))
    >>> scene_geobox(scene).shape.yx
    (4, 6)
    """
    import odc.geo.xr  # noqa: F401  (registers .odc)
    from affine import Affine
    from odc.geo.geobox import GeoBox

    height, width = scene.sizes["y"], scene.sizes["x"]
    if "y" not in scene.coords or "x" not in scene.coords:
        return GeoBox((height, width), Affine.identity(), None)
    stored = stored_transform(scene)
    y0, dy = _origin_and_step(scene["y"].values, stored.e if stored else None)
    x0, dx = _origin_and_step(scene["x"].values, stored.a if stored else None)
    dy, dx = dy or (-abs(dx) if dx else None), dx or (abs(dy) if dy else None)
    if dy is None or dx is None:
        dy, dx = -NATIVE_RESOLUTION, NATIVE_RESOLUTION
        warnings.warn(
            "A scene of one pixel tells nothing of its pixels' size: 10 units are taken.",
            RsEmbedWarning,
            stacklevel=2,
        )
    affine = Affine(dx, 0.0, x0 - dx / 2, 0.0, dy, y0 - dy / 2)
    return GeoBox((height, width), affine, _crs(scene))


def cell_geobox(geobox: GeoBox, patch: int = 16, density: int = 1) -> GeoBox:
    """The grid of cells: as many as patches begin inside the scene, each around its patch's centre.

    Parameters
    ----------
    geobox : GeoBox
        The scene's grid.
    patch : int
        Pixels of a patch.
    density : int
        Cells for each patch. At 1 the cells are the patches; beyond, the grid's corner lies
        ``(patch - patch / density) / 2`` pixels inside the scene's.

    Examples
    --------
    >>> from affine import Affine
    >>> from odc.geo.geobox import GeoBox
    >>> box = GeoBox((500, 224), Affine(10, 0, 600000, 0, -10, 5000000), "EPSG:32632")
    >>> cells = cell_geobox(box)
    >>> cells.shape.yx, cells.resolution.x
    ((32, 14), 160.0)
    >>> cell_geobox(box, density=2).affine.c
    600040.0
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    height, width = geobox.shape.yx
    pitch = patch // density
    corner = (patch - pitch) / 2
    a, _, c, _, e, f = geobox.affine[:6]
    affine = Affine(a * pitch, 0.0, c + a * corner, 0.0, e * pitch, f + e * corner)
    return GeoBox((-(-height // pitch), -(-width // pitch)), affine, geobox.crs)


def describe_grid(geobox: GeoBox) -> str:
    """A grid in one line.

    Examples
    --------
    >>> from affine import Affine
    >>> from odc.geo.geobox import GeoBox
    >>> describe_grid(GeoBox((500, 224), Affine(10, 0, 600000, 0, -10, 5000000), "EPSG:32632"))
    '500 x 224 pixels of 10 from (600000, 5000000) in EPSG:32632'
    """
    height, width = geobox.shape.yx
    affine, crs = geobox.affine, geobox.crs
    named = "no CRS" if crs is None else f"EPSG:{crs.to_epsg()}" if crs.to_epsg() else str(crs)
    return f"{height} x {width} pixels of {abs(affine.a):.10g} from ({affine.c:.10g}, {affine.f:.10g}) in {named}"


def subgrid(geobox: GeoBox, shape: tuple[int, int]) -> GeoBox:
    """The same extent cut into ``shape`` cells: the grid of a scene that was resized to one tile."""
    return geobox.zoom_to(shape)


def geobox_coords(geobox: GeoBox) -> dict[str, Any]:
    """Coords y, x (centres) and, where the grid has a CRS, spatial_ref: ready for a DataArray."""
    from odc.geo.xr import xr_coords

    coords: dict[str, Any] = {str(name): coord for name, coord in xr_coords(geobox, dims=("y", "x")).items()}
    if geobox.crs is None:
        coords.pop("spatial_ref", None)
    return coords


def _check_dims(scene: xr.DataArray) -> None:
    if not isinstance(scene, xr.DataArray):
        raise SceneError(
            "A scene is an xarray.DataArray.", found=type(scene).__name__, expected="DataArray (band, y, x)"
        )
    for dim, size in scene.sizes.items():
        if np.isnan(size):
            raise SceneError(
                "A lazy scene must know its own size.",
                found=f"chunks of unknown length along {dim}",
                expected="known lengths",
                remedy="da.copy(data=da.data.compute_chunk_sizes())",
            )
        if size == 0:
            raise SceneError(
                "The scene has an empty axis.", found=f"{dim} of length 0", expected="at least one pixel"
            )
    taken = [dim for dim in scene.dims if dim in _OUTPUT_DIMS]
    if taken:
        raise SceneError(
            f"The scene has a dim {taken[0]}, which is the name of a dim of embeddings.",
            found=f"dims {tuple(scene.dims)}",
            expected="dims (..., band, y, x)",
            remedy=f'da.rename({taken[0]}="another_name")',
        )
    lacking = [dim for dim in ("y", "x") if dim not in scene.dims]
    if not lacking:
        return
    rename = {
        str(dim): axis
        for axis, others in (("y", _OTHER_Y), ("x", _OTHER_X))
        for dim in scene.dims
        if axis in lacking and dim in others
    }
    raise SceneError(
        f"The scene has no dim {' or '.join(lacking)}.",
        found=f"dims {tuple(scene.dims)}",
        expected="dims (..., band, y, x)",
        remedy=f"da.rename({rename})"
        if rename
        else 'da.rename({"your_row_dim": "y", "your_column_dim": "x"})',
    )


def _check_regular(values: np.ndarray, dim: str) -> None:
    numbers = values.ndim == 1 and values.dtype.kind in "uif"
    if not numbers or not np.isfinite(values).all():
        raise GridError(
            f"The {dim} coord must be 1-D, finite numbers.",
            found=f"{values.ndim}-D {values.dtype}{', not all finite' if numbers else ''}",
            expected="pixel centres",
        )
    steps = np.diff(values.astype("float64"))
    if steps.size == 0:
        return
    mean = (float(values[-1]) - float(values[0])) / steps.size
    # Coords in float32 or in degrees carry rounding of their own; a hundredth of a pixel is no irregular grid.
    if not np.isfinite(steps).all() or mean == 0 or np.abs(steps - mean).max() > 0.01 * abs(mean):
        raise GridError(
            f"The {dim} coord is not evenly spaced.",
            found=f"steps from {steps.min():g} to {steps.max():g}",
            expected="one step throughout",
            remedy="reproject to a regular grid: da.odc.reproject(crs, resolution=10)",
        )


def _check_unrotated(scene: xr.DataArray) -> None:
    stored = stored_transform(scene)
    if stored is not None and (abs(stored.b) > 1e-9 or abs(stored.d) > 1e-9):
        raise GridError(
            "The scene's grid is rotated or sheared.",
            found=f"transform {tuple(stored)[:6]}",
            expected="a north-up (or south-up) grid",
            remedy="da.odc.reproject(da.rio.crs, resolution=10)",
        )


def stored_transform(scene: xr.DataArray) -> Any:
    """The affine that rioxarray or GDAL left in ``spatial_ref``, or None."""
    from affine import Affine

    for name in ("spatial_ref", str(scene.encoding.get("grid_mapping", "spatial_ref"))):
        text = scene.coords[name].attrs.get("GeoTransform") if name in scene.coords else None
        if text:
            return Affine.from_gdal(*_six_numbers(str(text)))
    return None


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


def _origin_and_step(values: np.ndarray, stored_step: float | None) -> tuple[float, float | None]:
    values = np.asarray(values, dtype="float64")
    if values.size > 1:
        return float(values[0]), (float(values[-1]) - float(values[0])) / (values.size - 1)
    return float(values[0]), stored_step


def _crs(scene: xr.DataArray) -> Any:
    from odc.geo.xr import ODCExtensionDa

    try:
        return ODCExtensionDa(scene).crs
    except (TypeError, ValueError) as error:
        raise GridError(
            "The scene's CRS cannot be read.",
            found=f"{type(error).__name__}: {error}",
            expected="one that odc-geo or rioxarray wrote",
            remedy='remove "grid_mapping" and "crs" from da.attrs, then da.rio.write_crs("EPSG:32632")',
        ) from error


def _metres_per_unit(geobox: GeoBox) -> float:
    axes = geobox.crs.proj.axis_info if geobox.crs is not None else []
    axis = axes[0] if axes else None
    return float(axis.unit_conversion_factor) if axis else 1.0
