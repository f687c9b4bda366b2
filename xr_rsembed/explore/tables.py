"""Embeddings as tables: one row for each cell or geometry, in a GeoParquet file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import xarray as xr

from xr_rsembed.errors import StoreError, check_new, one_of
from xr_rsembed.explore.cells import check_cells, computed, no_valid_cell, valid
from xr_rsembed.extras import require
from xr_rsembed.georef import scene_geobox

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

Outline = Literal["polygon", "point"]

_SIDE = 128  # cells a side that are written at once where there are no chunks


def to_geoparquet(
    emb: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    geometry: Outline = "polygon",
    overwrite: bool = False,
) -> Path:
    """Write the valid cells of an embedding, or a vector cube, as a GeoParquet file.

    Parameters
    ----------
    emb : DataArray, dims (..., D, y, x) or (geometry, ..., D)
        Cells are computed and written a chunk at a time; a vector cube as :func:`sample` and :func:`zonal` give it.
    path : path
        Ends in ``.parquet``.
    geometry : {"polygon", "point"}
        The outlines of cells, or their centres. A vector cube has its own geometries.
    overwrite : bool
        Replace a file that is there.

    Returns
    -------
    Path
        Of a file with columns ``geometry`` (WKB), for cells their centres ``x`` and ``y``, the labels of leading dims
        such as ``time``, coords of the geometries, and ``embedding``: a list of D float32. The attrs stand as JSON in
        the file's metadata, under ``xr_rsembed``. Read it with ``geopandas.read_parquet``.

    Raises
    ------
    StoreError
        If the path does not end in ``.parquet``.
    StoreExistsError
        If there is something at the path already.
    SceneError
        If this is neither a grid of vectors nor a vector cube, or no cell is valid.
    OptionError
        For another ``geometry``.
    MissingDependencyError
        Without pyarrow.

    Examples
    --------
    >>> import tempfile
    >>> import geopandas
    >>> emb = xr.DataArray(np.ones((4, 3, 5), dtype="float32"), dims=("D", "y", "x"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     geopandas.read_parquet(to_geoparquet(emb, f"{folder}/cells.parquet")).shape
    (15, 4)
    """
    parquet = require("pyarrow.parquet", "GeoParquet")
    target = Path(path)
    if target.suffix != ".parquet":
        raise StoreError(
            "A table of cells is a Parquet file.",
            found=target.name,
            expected="a path that ends in .parquet",
            remedy=f"{target.stem}.parquet",
        )
    one_of("geometry", geometry, get_args(Outline))
    check_new(target, overwrite)
    # GeoParquet 1.1, geometries of any type. A CRS of null is unknown; left out, it would be longitude and latitude.
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": [], "crs": None}
    if isinstance(emb, xr.DataArray) and {"geometry", "D"} <= set(emb.dims):
        tables = iter([_cube_table(emb)])
        crs = getattr(emb.xindexes.get("geometry"), "crs", None)
    else:
        check_cells(emb)
        geobox = scene_geobox(emb)
        tables, crs = _cell_tables(emb, geobox, geometry), geobox.crs.proj if geobox.crs else None
        column["bbox"] = tuple(geobox.boundingbox.bbox)
    if crs is not None:
        column["crs"] = crs.to_json_dict()
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    metadata = {"geo": json.dumps(geo), "xr_rsembed": json.dumps(emb.attrs, default=_plain)}
    draft = target.with_name(f".{target.name}")
    try:
        _write(parquet, tables, draft, metadata)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target


def _write(parquet: Any, tables: Iterator[Any], draft: Path, metadata: dict[str, str]) -> None:
    first = next(tables, None)
    if first is None:
        raise no_valid_cell()
    schema = first.schema.with_metadata(metadata)
    with parquet.ParquetWriter(draft, schema, compression="zstd") as writer:
        for table in chain([first], tables):
            writer.write_table(table.cast(schema))


def _cell_tables(emb: xr.DataArray, geobox: GeoBox, geometry: Outline) -> Iterator[Any]:
    """Tables of valid cells, chunk by chunk; none for a chunk without any."""
    import shapely
    from dask.array.core import normalize_chunks, slices_from_chunks

    affine: Any = geobox.affine
    ordered = emb.transpose(..., "y", "x", "D")
    chunks = ordered.chunks or normalize_chunks(_SIDE, ordered.shape)
    for slices in slices_from_chunks(chunks[:-1]):  # whole in D: no block is computed twice
        window = dict(zip(ordered.dims[:-1], slices, strict=True))
        part = computed(ordered.isel(window))
        usable = valid(part.values)
        if not usable.any():
            continue
        places = dict(zip(ordered.dims[:-1], np.nonzero(usable), strict=True))
        places = {dim: index + window[dim].start for dim, index in places.items()}
        row, column = places["y"], places["x"]
        x, y = affine * (column + 0.5, row + 0.5)
        corners = affine * (column, row + 1) + affine * (column + 1, row)
        shapes = shapely.points(x, y) if geometry == "point" else shapely.box(*corners)
        leading = {str(dim): ordered[dim].values[places[dim]] for dim in ordered.dims[:-3]}
        yield _table(shapes, {**leading, "x": x, "y": y}, part.values[usable])


def _cube_table(cube: xr.DataArray) -> Any:
    """One table of a vector cube: a row for each geometry and label of the dims between."""
    ordered = computed(cube.transpose("geometry", ..., "D"))
    shape = ordered.shape[:-1]
    places = dict(zip(ordered.dims[:-1], (axis.ravel() for axis in np.indices(shape)), strict=True))
    leading = {str(dim): ordered[dim].values[places[dim]] for dim in ordered.dims[1:-1]}
    along = {
        str(name): coord.values[places["geometry"]]
        for name, coord in ordered.coords.items()
        if coord.dims == ("geometry",) and name != "geometry"
    }
    shapes = ordered["geometry"].values[places["geometry"]]
    return _table(shapes, {**along, **leading}, ordered.values.reshape(-1, ordered.shape[-1]))


def _table(shapes: np.ndarray, columns: Mapping[str, np.ndarray], vectors: np.ndarray) -> Any:
    import pyarrow
    import shapely

    flat = pyarrow.array(np.ascontiguousarray(vectors, dtype="float32").ravel())
    return pyarrow.table(
        {
            **{name: pyarrow.array(values) for name, values in columns.items()},
            "geometry": pyarrow.array(shapely.to_wkb(shapes), type=pyarrow.binary()),
            "embedding": pyarrow.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
        }
    )


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
