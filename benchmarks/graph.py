"""The graph over the scene's size and chunks: seconds to build, tasks a block, bytes pickled.

python -m benchmarks graph
"""

from __future__ import annotations

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
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    source = scene.data.__dask_graph__().layers
    layers = embedding.data.__dask_graph__().layers
    ours = {key: task for name, layer in layers.items() if name not in source for key, task in layer.items()}
    return {
        "side": side,
        "chunks": list(chunks),
        "overlap": overlap,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "blocks": embedding.data.npartitions,
        "tasks_per_block": len(ours) / embedding.data.npartitions,
        "megabytes": len(cloudpickle.dumps(ours)) / 1e6,
    }
