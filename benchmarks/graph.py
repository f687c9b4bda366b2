"""The graph over the scene's size and chunks: seconds to build and optimize, tasks a block, bytes pickled.

Tasks are those that a scheduler gets, without the ones that read the scene.

python -m benchmarks graph
"""

from __future__ import annotations

import math
import time
import warnings
from typing import Any

from benchmarks import measure

SIDES = (10_000, 30_000, 100_000)
CHUNKS = ((12, 2048, 2048), (12, 1024, 1024), (1, 2048, 2048), (1, 1024, 1024), (1, 10980, 512))


def run(sides: tuple[int, ...] = SIDES) -> None:
    rows = []
    for side in sides:
        for chunks in CHUNKS:
            for overlap in (0, 64):
                rows.append(row(side, chunks, overlap))
                print(rows[-1], flush=True)
    measure.save("graph", rows)


def row(side: int, chunks: tuple[int, ...], overlap: int) -> dict[str, Any]:
    import cloudpickle
    import dask
    import dask.array as da
    import numpy as np
    import xarray as xr

    import xr_rsembed
    from benchmarks.speed import BANDS

    scene = xr.DataArray(
        da.zeros((12, side, side), dtype="uint16", chunks=chunks),
        dims=("band", "y", "x"),
        coords={"band": list(BANDS), "y": 5e6 - 10.0 * np.arange(side), "x": 5e5 + 10.0 * np.arange(side)},
        attrs={"units": "DN"},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start, cpu = time.perf_counter(), time.process_time()
        embedding = xr_rsembed.embed(scene, "terramind_v1_tiny", weights="random", overlap=overlap)
        built = time.process_time() - cpu
        graph = dict(dask.optimize(embedding.data)[0].__dask_graph__())
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    reading = sum(name.startswith("zeros") for name in map(_name, graph))
    blocks = math.prod(embedding.data.numblocks)
    return {
        "side": side,
        "chunks": list(chunks),
        "overlap": overlap,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "cpu_seconds_to_build": built,
        "blocks": blocks,
        "tasks_per_block": (len(graph) - reading) / blocks,
        "megabytes": len(cloudpickle.dumps(graph)) / 1e6,
    }


def _name(key: Any) -> str:
    return str(key[0] if isinstance(key, tuple) else key)
