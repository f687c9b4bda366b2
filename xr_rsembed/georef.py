"""From a scene's grid to the grid of its cells, by odc-geo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xr_rsembed.crs import checked_transform, crs_name, crs_of, why_no_crs
from xr_rsembed.errors import GridError, SceneError, warn

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

NATIVE_RESOLUTION = 10.0  # metres a pixel that the models were trained on

# Names that other tools give the two axes; the error offers the rename.
_OTHER_Y = ("lat", "latitude", "northing", "Y", "row", "rows", "height")
_OTHER_X = ("lon", "longitude", "easting", "X", "col", "cols", "column", "width")

_OUTPUT_DIMS = ("D", "layer", "modality", "tile_y", "tile_x")


def check_grid(scene: xr.DataArray, resolution: float = NATIVE_RESOLUTION) -> None:
    """Raise unless the scene has y and x dims on a regular, unrotated grid; warn of what may surprise."""
    _check_dims(scene)
    geobox = scene_geobox(scene)
    if geobox.crs is None:
        warn(why_no_crs(scene))
        return
    if geobox.crs.geographic:
        box = geobox.boundingbox
        if max(abs(box.left), abs(box.right)) > 361 or max(abs(box.bottom), abs(box.top)) > 91:
            raise GridError(
                f"The scene's coords are no degrees, as its CRS {crs_name(geobox.crs)} has them.",
                found=f"x from {box.left:.10g} to {box.right:.10g}, y from {box.bottom:.10g} to {box.top:.10g}",
                expected="degrees, or another CRS",
                remedy='da.rio.write_crs("EPSG:32632"), with the CRS that the coords are in',
            )
        warn(
            f"The scene's CRS {crs_name(geobox.crs)} is geographic: its pixels are not square metres and a cell's "
            "size on the ground varies with latitude. Reproject first with "
            'da.odc.reproject("utm", resolution=10).'
        )
        return
    axes = geobox.crs.proj.axis_info
    metres = abs(geobox.resolution.x) * (axes[0].unit_conversion_factor if axes else 1.0)
    if metres < 0.01 and max(map(abs, geobox.boundingbox.bbox)) <= 361:
        raise GridError(
            f"The scene's coords look like degrees, and its CRS {crs_name(geobox.crs)} has metres.",
            found=describe_grid(geobox),
            expected="coords in the CRS's units",
            remedy='da.rio.write_crs("EPSG:4326"), if they are degrees',
        )
    if not resolution / 2 <= metres <= resolution * 2:
        warn(
            f"The scene has pixels of {metres:g} m; the model was trained on {resolution:g} m. A patch then "
            f"spans {metres / resolution:g} times the ground that it should, and embeddings may mean less. "
            f"Resample with da.odc.reproject(da.odc.crs, resolution={resolution:g}) if the source allows."
        )


def scene_geobox(scene: xr.DataArray) -> GeoBox:
    """The scene's grid as an odc-geo GeoBox: the one place where a grid is read and checked.

    From its coords y and x, else from the transform that rioxarray or GDAL left beside the CRS. Coords that lie on
    the corners of that transform's pixels, as stackstac gives them, are corners; float32 coords are put back on it.

    Its ``crs`` is None where the scene names none, and it is the grid of pixel numbers where nothing says where the
    scene lies. Coords that are not evenly spaced, rotated grids and ground control points alone are errors.

    >>> scene = xr.DataArray(np.zeros((4, 6)), dims=("y", "x"))
    >>> scene_geobox(scene).shape.yx
    (4, 6)
    >>> scene_geobox(scene.assign_coords(y=[30, 20, 10, 5], x=range(6)))
    Traceback (most recent call last):
        ...
    xr_rsembed.errors.GridError: The y coord is not evenly spaced.
      found:    steps from -10 to -5
      expected: one step throughout
      remedy:   da.sortby('y').interp(y=np.linspace(5.0, 30.0, 4)) resamples onto a regular axis
    """
    from affine import Affine
    from odc.geo.geobox import GeoBox

    stored = checked_transform(scene)
    placed = [dim in scene.coords for dim in ("y", "x")]
    if not any(placed):
        crs = crs_of(scene) if stored else None
        return GeoBox((scene.sizes["y"], scene.sizes["x"]), stored or Affine.identity(), crs)
    north, dy = _axis(scene, "y", (stored.f, stored.e) if stored else None)
    west, dx = _axis(scene, "x", (stored.c, stored.a) if stored else None)
    dy, dx = dy or (-abs(dx) if dx else None), dx or (abs(dy) if dy else None)
    if dy is None or dx is None:
        dy, dx = -NATIVE_RESOLUTION, NATIVE_RESOLUTION
        warn("A scene of one pixel tells nothing of its pixels' size: 10 units are taken.")
    affine = Affine(dx, 0.0, west - dx / 2, 0.0, dy, north - dy / 2)
    return GeoBox((scene.sizes["y"], scene.sizes["x"]), affine, crs_of(scene))


def cell_geobox(geobox: GeoBox, patch: int = 16, density: int = 1) -> GeoBox:
    """The grid of cells on a scene's grid: as many as patches begin inside the scene, each around its patch's centre.

    With one cell a patch (``density=1``) the cells are the patches; beyond, the grid's corner lies
    ``(patch - patch / density) / 2`` pixels inside the scene's.

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

    >>> from affine import Affine
    >>> from odc.geo.geobox import GeoBox
    >>> describe_grid(GeoBox((500, 224), Affine(10, 0, 600000, 0, -10, 5000000), "EPSG:32632"))
    '500 x 224 pixels of 10 from (600000, 5000000) in EPSG:32632'
    """
    height, width = geobox.shape.yx
    affine = geobox.affine
    place = f"({affine.c:.10g}, {affine.f:.10g}) in {crs_name(geobox.crs)}"
    return f"{height} x {width} pixels of {abs(affine.a):.10g} from {place}"


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
    if scene.chunks is not None and not hasattr(scene.data, "__dask_graph__"):
        raise SceneError(
            "A lazy scene is made of dask's chunks.",
            found=f"{type(scene.data).__module__}.{type(scene.data).__qualname__}",
            expected="a dask or a numpy array",
            remedy="da.compute(), or open it with chunked_array_type='dask'",
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
    check_axes(scene)


def check_axes(scene: xr.DataArray, called: str = "da") -> None:
    """Raise where the dims y and x have other names; ``called`` is what the remedy renames."""
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
        remedy=f"{called}.rename({rename})"
        if rename
        else f'{called}.rename({{"your_row_dim": "y", "your_column_dim": "x"}})',
    )


def _axis(scene: xr.DataArray, dim: str, stored: tuple[float, float] | None) -> tuple[float, float | None]:
    """Centre of the first pixel along an axis, and the step to the next; None where nothing tells.

    ``stored`` is the edge and step of the transform beside the CRS. Cuts and strides leave it behind, so it counts
    only where the coords lie on its pixels.
    """
    if dim not in scene.coords:
        edge, pixel = stored or (0.0, 1.0)
        return edge + pixel / 2, pixel
    labels = np.asarray(scene[dim].values)
    _check_numbers(labels, dim)
    values = labels.astype("float64")
    first, rounding = float(values[0]), _rounding(labels)
    step: float | None = stored[1] if stored else None
    if values.size > 1:
        step = (float(values[-1]) - first) / (values.size - 1)
        _check_even(values, dim, rounding)
    if stored is None or step is None or abs(step * values.size) < 1e-12:
        return first, step
    edge, pixel = stored
    tolerance = 0.01 * abs(pixel) + min(rounding, 0.25 * abs(pixel))
    if abs(abs(step) - abs(pixel)) * max(values.size - 1, 1) > 2 * tolerance:
        return first, step  # strided or resampled since
    position = (first - edge) / pixel  # in pixels: .5 at centres, whole numbers at corners
    from_corner = abs(position - round(position)) * abs(pixel)
    if from_corner <= tolerance:
        return edge + pixel * (round(position) + 0.5), float(np.copysign(pixel, step))
    if rounding > 1e-6 * abs(pixel) and abs(from_corner - abs(pixel) / 2) <= tolerance:
        return edge + pixel * (np.floor(position) + 0.5), float(np.copysign(pixel, step))
    return first, step


def _check_numbers(values: np.ndarray, dim: str) -> None:
    numbers = values.ndim == 1 and values.dtype.kind in "uif"
    if not numbers or not np.isfinite(values).all():
        raise GridError(
            f"The {dim} coord must be 1-D, finite numbers.",
            found=f"{values.ndim}-D {values.dtype}{', not all finite' if numbers else ''}",
            expected="pixel centres",
        )


def _check_even(values: np.ndarray, dim: str, rounding: float) -> None:
    steps = np.diff(values)
    mean = (values[-1] - values[0]) / steps.size
    # A hundredth of a pixel is no irregular grid, nor is what float32 rounds away of degrees.
    tolerance = min(0.01 * abs(mean) + rounding, 0.25 * abs(mean))
    line = values[0] + mean * np.arange(values.size)
    if mean == 0 or np.abs(steps - mean).max() > 2 * tolerance or np.abs(values - line).max() > 2 * tolerance:
        raise GridError(
            f"The {dim} coord is not evenly spaced.",
            found=f"steps from {steps.min():g} to {steps.max():g}",
            expected="one step throughout",
            remedy=_regular(values, steps, dim),
        )


def _regular(values: np.ndarray, steps: np.ndarray, dim: str) -> str:
    """The line that makes an axis regular: fill the gaps where labels were dropped, else resample."""
    ordered = np.diff(np.sort(values))
    if ordered.min() > 0 and ordered.max() - ordered.min() < 0.01 * ordered.max():
        return f"da.sortby({dim!r}, ascending={bool(np.median(steps) > 0)})"
    first, last = float(values[0]), float(values[-1])
    step = float(np.median(steps))
    multiples = steps / step if step else steps
    if step and np.abs(multiples - multiples.round()).max() < 0.01 and multiples.min() > 0.5:
        axis = f"np.linspace({first!r}, {last!r}, {round((last - first) / step) + 1})"
        return (
            f'da.reindex({dim}={axis}, method="nearest", tolerance={abs(step) / 100:g}) makes it regular: what was '
            "dropped is nodata again"
        )
    low, high = float(values.min()), float(values.max())
    line = f"da.sortby({dim!r}).interp({dim}=np.linspace({low!r}, {high!r}, {values.size}))"
    return f"{line} resamples onto a regular axis"


def _rounding(labels: np.ndarray) -> float:
    """How far labels may stand off because they are, or once were, float32."""
    largest = np.abs(labels).max()
    if labels.dtype.kind != "f" or labels.dtype == "float16" or not largest:
        return 0.0
    single = labels.astype("float32")
    return float(np.spacing(np.abs(single).max())) if (single == labels).all() else 0.0
