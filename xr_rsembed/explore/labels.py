"""From labelled points and polygons to labelled vectors: the cells under them, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import LabelError, warn, whole_number
from xr_rsembed.explore.cells import check_cells, computed, valid
from xr_rsembed.explore.once import Read
from xr_rsembed.explore.polygons import cells_under, in_grid_crs, outside
from xr_rsembed.extras import require
from xr_rsembed.georef import scene_geobox

_MOST = 5_000  # cells learned from: more of them make kNN over a granule slow, and say little new


@dataclass(frozen=True)
class LabelledCells:
    """Vectors (n, D), float32 and finite, with the class name or value of each, and the number of its block.

    Blocks are squares of ``side`` cells.
    """

    vectors: np.ndarray
    targets: np.ndarray
    blocks: np.ndarray
    side: int


def labelled_cells(
    emb: xr.DataArray,
    labels: Any,
    column: str,
    *,
    numeric: bool,
    side: int | None = None,
    read: Read | None = None,
) -> LabelledCells:
    """Read the cells under labels, points or polygons in any CRS.

    Of a lazy embedding only the blocks under labels are computed; with leading dims such as time a label holds at
    every date. Of ``numeric`` labels a cell under several gets the mean, of classes it keeps all. ``side`` is that of a
    block in cells: by default a tile of the model, since the cells of one tile have seen each other. ``read`` stands in
    place of ``emb.isel``.

    A LabelError where nothing can be learned from; warnings of labels left out.
    """
    check_cells(emb)
    side = _tile_in_cells(emb) if side is None else whole_number("block", side, at_least=1)
    geobox = scene_geobox(emb)
    placed = in_grid_crs(_complete(labels, column, numeric), geobox)
    rows, columns, targets = _cells(placed, geobox, column, numeric)
    at = (read or emb.isel)({"y": xr.DataArray(rows, dims="cell"), "x": xr.DataArray(columns, dims="cell")})
    values = computed(at).transpose("cell", ..., "D").values.astype("float32", copy=False)
    values = values.reshape(len(rows), -1, emb.sizes["D"])  # cell, date, D
    blocks = (rows // side) * (geobox.shape.x // side + 1) + columns // side
    usable = valid(values)
    if not usable.any():
        raise LabelError(
            "No label lies on a valid cell.",
            found=f"{len(rows)} cells under labels, all NaN",
            expected="finite vectors",
            remedy="label places away from nodata and clouds",
        )
    if not usable.all():
        warn(
            f"{int((~usable).sum())} of {usable.size} cells under labels are not valid (NaN) and are left out."
        )
    cell = np.nonzero(usable)[0]
    return LabelledCells(values[usable], targets[cell], blocks[cell], side)


def _complete(labels: Any, column: str, numeric: bool) -> Any:
    """The labels that have a geometry and a value, with the value as float or text."""
    geopandas = require("geopandas", "Learning from labels")
    import pandas

    if not isinstance(labels, geopandas.GeoDataFrame):
        raise LabelError(
            "Labels are a GeoDataFrame.",
            found=type(labels).__name__,
            expected="a GeoDataFrame of points or polygons",
            remedy='geopandas.read_file("labels.geojson")',
        )
    if column not in labels.columns:
        others = [str(name) for name in labels.columns if name != labels.geometry.name]
        raise LabelError(
            f"The labels have no column {column!r}.",
            found=", ".join(others) or "only geometries",
            expected=column,
            remedy=f"column={others[0]!r}" if others else None,
        )
    known = labels[column].notna() & labels.geometry.notna() & ~labels.geometry.is_empty
    if not known.any():
        raise LabelError(
            "There is no label.",
            found=f"{len(labels)} rows, none with a geometry and a value in {column!r}",
            expected="at least one label",
        )
    if not known.all():
        warn(
            f"{int((~known).sum())} of {len(labels)} labels have no geometry or no {column} and are left out."
        )
    complete = labels.loc[known, [column, labels.geometry.name]]
    values = complete[column]
    if not numeric:  # whole numbers that pandas holds as float, beside a missing one, are whole again
        return complete.assign(**{column: values.convert_dtypes().astype(str)})
    numbers = pandas.to_numeric(values, errors="coerce").astype("float64")
    if not np.isfinite(numbers).all():
        raise LabelError(
            f"The column {column!r} is not all numbers.",
            found=repr(values[~np.isfinite(numbers)].iloc[0]),
            expected="finite numbers",
            remedy="classify() for names",
        )
    return complete.assign(**{column: numbers})


def _cells(placed: Any, geobox: Any, column: str, numeric: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and targets of the different cells under labels."""
    import pandas

    covers = [cells_under(geometry, geobox) for geometry in placed.geometry]
    counts = np.array([len(rows) for rows, _ in covers])
    if not counts.any():
        raise outside(list(placed.geometry), geobox, "label")
    if not counts.all():
        warn(
            f"{int((counts == 0).sum())} of {len(counts)} labels lie outside the embedding and are left out."
        )
    table = pandas.DataFrame(
        {
            "row": np.concatenate([rows for rows, _ in covers]),
            "column": np.concatenate([columns for _, columns in covers]),
            "target": np.repeat(placed[column].to_numpy(), counts),
        }
    )
    places = table.groupby(["row", "column"], as_index=False)
    table = places["target"].mean() if numeric else table.drop_duplicates()
    table = _thinned(table, numeric).sort_values(["row", "column", "target"])
    return table["row"].to_numpy(), table["column"].to_numpy(), table["target"].to_numpy()


def _thinned(table: Any, numeric: bool) -> Any:
    """At most ``_MOST`` cells, at random; of classes as many of each as there is room for."""
    if len(table) <= _MOST:
        return table
    if numeric:
        return table.sample(_MOST, random_state=0)
    room = max(1, _MOST // table["target"].nunique())
    return table.sample(frac=1, random_state=0).groupby("target").head(room)


def _tile_in_cells(emb: xr.DataArray) -> int:
    tile, patch = emb.attrs.get("tile_size", 224), emb.attrs.get("patch_size", 16)
    return int(tile) // int(patch) * int(emb.attrs.get("density", 1))
