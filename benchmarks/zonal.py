"""Vectors of polygons: one pass and one product over D, against exactextract called for each layer through xvec.

    python -m benchmarks zonal [--depth 768]

Polygons are circles of 1.6 km on a grid of 160 m cells; the first case is small enough for both, the second a granule.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import measure

CASES = ((120, 20, True), (686, 200, False))  # cells a side, polygons, whether xvec runs too


def run(depth: int = 768, rounds: int = 3) -> None:
    rows = []
    for side, count, both in CASES:
        emb, areas = embedding(side, depth), circles(side, count)
        ways: dict[str, Callable[[], np.ndarray]] = {
            "in memory": lambda emb=emb, areas=areas: ours(emb, areas),
            "chunked": lambda emb=emb, areas=areas: ours(emb.chunk({"y": 112, "x": 112}), areas),
        }
        if both:
            ways["xvec"] = lambda emb=emb, areas=areas: through_xvec(emb, areas)
        taken: dict[str, list[float]] = {name: [] for name in ways}
        found = {}
        for _ in range(rounds):  # in turn
            for name, way in ways.items():
                start = time.perf_counter()
                found[name] = way()
                taken[name].append(time.perf_counter() - start)
        row: dict[str, Any] = {"side": side, "polygons": count}
        row |= {name: statistics.median(times) for name, times in taken.items()}
        if both:
            row["difference"] = float(np.abs(found["xvec"] - found["in memory"]).max())
        rows.append(row)
        print(row, flush=True)
    measure.save("zonal", rows, depth=depth)


def embedding(side: int, depth: int) -> Any:
    import xarray as xr
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from xr_rsembed.georef import geobox_coords

    values = np.random.default_rng(0).standard_normal((depth, side, side), dtype="float32")
    grid = GeoBox((side, side), Affine(160, 0, 600000, 0, -160, 5000000), "EPSG:32632")
    return xr.DataArray(values, dims=("D", "y", "x"), coords=geobox_coords(grid))


def circles(side: int, count: int) -> Any:
    import geopandas
    import shapely

    at = np.random.default_rng(1).uniform(1600, 160 * side - 1600, (count, 2))
    shapes = [shapely.Point(600000 + x, 5000000 - y).buffer(1600) for x, y in at]
    return geopandas.GeoSeries(shapes, crs="EPSG:32632")


def ours(emb: Any, areas: Any) -> np.ndarray:
    from xr_rsembed import explore

    return explore.zonal(emb, areas).values


def through_xvec(emb: Any, areas: Any) -> np.ndarray:
    import rioxarray  # noqa: F401
    import xvec  # noqa: F401

    cube = emb.xvec.zonal_stats(areas, "x", "y", stats="mean", method="exactextract")
    values: np.ndarray = cube.transpose("geometry", "D").values
    return values
