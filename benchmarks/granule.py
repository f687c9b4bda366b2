"""A whole Sentinel-2 granule from a chunked store to Zarr: peak memory and time, over the scene's size.

    python -m benchmarks granule [--sides 2745,5490,10980]

Each size runs in a process of its own, from the same store, so that its peak memory is its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import measure

SIDE = 10_980
CHUNK = 1830  # of one band, as ESA's own Zarr products of Sentinel-2 have them
BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")


def run(sides: tuple[int, ...] = (2745, 5490, 10980), model: str = "terramind_v1_tiny") -> None:
    with tempfile.TemporaryDirectory(prefix="rsembed-granule-") as folder:
        write_scene(f"{folder}/scene.zarr", max(sides))
        rows = []
        for side in sides:
            command = [sys.executable, "-m", "benchmarks.granule", folder, str(side), model]
            done = subprocess.run(command, cwd=measure.ROOT, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
            measure.save("granule", rows, each_cpu=True, model=model, chunks=[1, CHUNK, CHUNK])


def write_scene(path: str, side: int) -> None:
    """Noise, chunk by chunk: what the pixels are matters to neither memory nor time."""
    import zarr

    pixels = zarr.create_array(path, shape=(len(BANDS), side, side), chunks=(1, CHUNK, CHUNK), dtype="uint16")
    rng = np.random.default_rng(0)
    noise = rng.integers(200, 9000, (CHUNK + 64, CHUNK + 64), dtype="uint16")
    for band in range(len(BANDS)):
        for row in range(0, side, CHUNK):
            for column in range(0, side, CHUNK):
                shift = rng.integers(0, 64, 2)
                part = noise[shift[0] :, shift[1] :][: min(CHUNK, side - row), : min(CHUNK, side - column)]
                pixels[band, row : row + part.shape[0], column : column + part.shape[1]] = part


def embed_part(folder: str, side: int, model: str) -> dict[str, float]:
    """One process' work: the scene's upper left corner of so many pixels a side."""
    import warnings

    import dask.array as da
    import torch  # noqa: F401  its memory is the baseline
    import xarray as xr

    warnings.simplefilter("ignore")
    with_torch = _resident()
    import xr_rsembed
    from xr_rsembed.store.zarr import to_zarr

    pixels = da.from_zarr(f"{folder}/scene.zarr")[:, :side, :side]
    scene = xr.DataArray(
        pixels,
        dims=("band", "y", "x"),
        coords={"band": list(BANDS), "y": 5e6 - 10.0 * np.arange(side), "x": 5e5 + 10.0 * np.arange(side)},
        attrs={"units": "DN", "nodata": 0},
    )
    embedding = xr_rsembed.embed(scene, model, weights="random", device="cpu")
    embedding[:, :1, :1].compute()  # loads the encoder: its ten seconds are not the scene's
    loaded = _resident()
    start, cpu = time.perf_counter(), time.process_time()
    to_zarr(embedding, f"{folder}/embedding-{side}.zarr", progress=False)
    return {
        "side": side,
        "tiles": (-(-side // 224)) ** 2,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "torch_mib": with_torch,
        "encoder_mib": loaded,
        "peak_mib": _peak(),
        "load": os.getloadavg()[0],
    }


def _resident() -> float:
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def _status(key: str) -> float:
    """A line of this process' status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


if __name__ == "__main__":
    print(json.dumps(embed_part(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
