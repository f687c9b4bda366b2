"""A region's memory: 100 x 100 km of made pixels, unit by unit, in a process of its own.

    python -m benchmarks.region [--km 100] [--model terramind_v1_tiny] [--workers 2]

The provider makes its pixels when they are computed, as a reader would, with as many dates as a month has. Measured are
the peak of the process beyond what it has once torch and the model are loaded, and how long the units took. A run of
100 km or more is kept as results/region.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from pyproj import Transformer

import xr_rsembed
from benchmarks.measure import ROOT, save
from xr_rsembed.providers.base import SceneRequest, label_scene

DATES = 6


class MadePixels:
    """Noise for every request: the median of some dates, made chunk by chunk."""

    def open(self, request: SceneRequest) -> xr.DataArray:
        height, width = request.grid.shape.yx
        side = request.chunks
        layout = ((len(request.bands),), *da.core.normalize_chunks((side, side), (height, width)))
        pixels = da.map_blocks(_median, chunks=layout, dtype="uint16", meta=np.empty((0, 0, 0), "uint16"))
        return label_scene(request, pixels, attrs={"provider": "made", "item_ids": ["made"]})


def _median(block_info: Any = None) -> np.ndarray:
    shape = block_info[None]["chunk-shape"]
    rng = np.random.default_rng(0)
    return np.stack(
        [np.median(rng.integers(200, 4000, (DATES, *shape[1:]), "uint16"), 0) for _ in range(shape[0])]
    ).astype("uint16")


def resident() -> float:
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def run(km: float = 100, model: str = "terramind_v1_tiny", workers: int = 2) -> None:
    """Measure, and beside it a smaller region: the memory must not grow with the land."""
    rows = {}
    for side in sorted({min(km, 20), km}):
        command = [sys.executable, "-m", "benchmarks.region", "--one", f"--km={side}", f"--model={model}"]
        found = subprocess.check_output([*command, f"--workers={workers}"], cwd=ROOT, text=True)
        print(found.strip(), flush=True)
        rows[f"{side:.0f}"] = json.loads(found)
    if km >= 100:
        save("region", rows, model=model, dates=DATES, workers=workers)


def _measure(km: float, model: str, workers: int) -> dict[str, float]:
    warnings.simplefilter("ignore")
    to_degrees = Transformer.from_crs(32632, 4326, always_xy=True).transform
    west, south = to_degrees(450_000, 5_000_000)
    east, north = to_degrees(450_000 + 1000 * km, 5_000_000 + 1000 * km)
    with tempfile.TemporaryDirectory() as folder:
        region = xr_rsembed.region(
            f"{folder}/region.zarr", (west, south, east, north), "2022-06", model,
            provider=MadePixels(), weights="random",
        )  # fmt: skip
        tiles = int(region.plan()["tiles"].sum())  # loads the model
        before, peak, running = resident(), 0.0, True

        def watch() -> None:
            nonlocal peak
            while running:
                peak = max(peak, resident())
                time.sleep(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        try:
            status = region.run(workers=workers)
        finally:
            running = False
            watcher.join()
        seconds = time.perf_counter() - started
        if len(status.done) != len(region.keys):
            raise RuntimeError(f"not all units were embedded: {status}")
        return {
            "km": km,
            "units": len(region.keys),
            "unit": next(iter(region.zones.values())).side,
            "tiles": tiles,
            "seconds": seconds,
            "loaded_mib": before,
            "more_mib": peak - before,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--km", type=float, default=100)
    parser.add_argument("--model", default="terramind_v1_tiny")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--one", action="store_true", help="Measure in this process, and print JSON.")
    given = vars(parser.parse_args())
    if given.pop("one"):
        print(json.dumps(_measure(**given)))
    else:
        run(**given)


if __name__ == "__main__":
    main()
