"""Embeddings without a model: kinds of land in stripes, each its own direction, with noise of a known size."""

from __future__ import annotations

import dask
import geopandas
import numpy as np
import shapely
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox

from xr_rsembed.georef import geobox_coords

KINDS = ("open water", "forest", "town")
CRS = "EPSG:32632"
ATTRS = {
    "model": "terramind",
    "model_key": "terramind_v1_tiny",
    "modality": "S2L2A",
    "bands": ["B2", "B3", "B4"],
    "normalization": "z-score, TerraMind v1",
    "weights": "ibm/terramind@1",
    "weights_sha256": "a" * 64,
    "layer": -1,
    "tile_size": 224,
    "patch_size": 16,
    "overlap": 0,
}


def grid(rows: int = 40, columns: int = 60) -> GeoBox:
    return GeoBox((rows, columns), Affine(160, 0, 600000, 0, -160, 5000000), CRS)


def kinds(rows: int = 40, columns: int = 60) -> np.ndarray:
    """Number of the kind of land in every cell: diagonal stripes five cells wide."""
    row, column = np.mgrid[:rows, :columns]
    return (row + column) // 5 % len(KINDS)


def stripes(
    rows: int = 40, columns: int = 60, depth: int = 12, noise: float = 0.05, seed: int = 0
) -> xr.DataArray:
    """Vectors (D, y, x); the first three rows and four columns are not valid."""
    rng = np.random.default_rng(seed)
    values = np.eye(len(KINDS), depth)[kinds(rows, columns)] + rng.normal(0, noise, (rows, columns, depth))
    values[:3, :4] = np.nan
    return xr.DataArray(
        values.transpose(2, 0, 1).astype("float32"),
        dims=("D", "y", "x"),
        coords={"D": np.arange(depth), **geobox_coords(grid(rows, columns))},
        name="embedding",
        attrs=ATTRS,
    )


def dated(*embeddings: xr.DataArray) -> xr.DataArray:
    """Embeddings (time, D, y, x), a day apart."""
    days = np.datetime64("2022-06-01", "ns") + np.arange(len(embeddings)) * np.timedelta64(1, "D")
    return xr.concat(embeddings, "time").assign_coords(time=days)


def place(row: float, column: float) -> tuple[float, float]:
    """The centre of a cell."""
    return 600000 + 160 * (column + 0.5), 5000000 - 160 * (row + 0.5)


def points(count: int = 40, seed: int = 0, first_row: int = 3) -> geopandas.GeoDataFrame:
    """Labelled points on valid cells, in degrees."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(first_row, 40, count), rng.integers(0, 60, count)
    kind = kinds()[rows, columns]
    return geopandas.GeoDataFrame(
        {"class": [KINDS[one] for one in kind], "height": 10.0 * kind},
        geometry=[shapely.Point(*place(*cell)) for cell in zip(rows, columns, strict=True)],
        crs=CRS,
    ).to_crs(4326)


def nothing_computed():
    """A context in which computing anything raises."""

    def refuse(*_, **__):
        raise AssertionError("something was computed")

    return dask.config.set(scheduler=refuse)
