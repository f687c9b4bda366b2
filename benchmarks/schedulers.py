"""The same embedding under dask's threads, its synchronous scheduler, and clusters of one and two workers.

python -m benchmarks schedulers
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from benchmarks import measure


def run(model: str = "terramind_v1_tiny", rounds: int = 5, side: int = 6) -> None:
    from distributed import Client, LocalCluster

    import xr_rsembed
    from benchmarks.speed import TILE
    from xr_rsembed.datasets import synthetic_scene
    from xr_rsembed.distributed import warm

    pixels = synthetic_scene((side * TILE, side * TILE), chunks=512)
    with xr_rsembed.set_options(block_tiles=2):
        lazy = xr_rsembed.embed(pixels, model, weights="random", device="cpu")
    taken: dict[str, list[float]] = {}
    clusters = {
        f"LocalCluster, {number} worker{'s' if number > 1 else ''}": LocalCluster(
            n_workers=number, threads_per_worker=2 // number, dashboard_address=None
        )
        for number in (1, 2)
    }
    clients = {name: Client(cluster, set_as_default=False) for name, cluster in clusters.items()}
    ways: dict[str, Any] = {
        "threads": lambda: lazy.compute(scheduler="threads"),
        "synchronous": lambda: lazy.compute(scheduler="synchronous"),
    }
    for name, client in clients.items():
        warm(client, lazy)
        ways[name] = lambda client=client: client.compute(lazy.data, optimize_graph=True).result()
    try:
        for way in ways.values():
            way()
        for _ in range(rounds):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                taken.setdefault(name, []).append(time.perf_counter() - start)
    finally:
        for name, client in clients.items():
            client.close()
            clusters[name].close()
    first = taken["threads"]
    rows = {
        name: {
            "tiles_per_s": side**2 / statistics.median(seconds),
            "over_threads": statistics.median(a / b for a, b in zip(first, seconds, strict=True)),
        }
        for name, seconds in taken.items()
    }
    print(rows, flush=True)
    measure.save("schedulers", rows, model=model)
