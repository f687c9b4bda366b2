"""The explorer: from the call to the first picture, and memory, for a granule at D = 384.

    python -m benchmarks explorer

Each round is a fresh process, which loads the libraries, opens the embedding, serves it, and fetches a page as a
browser does: its document with the picture in it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks import measure

SIDE, DEPTH = 686, 384  # cells of a granule, and D of TerraMind small
PAGE = """
import json, os, socket, sys, time
from pathlib import Path
begun = time.perf_counter()
import bokeh.client, numpy, panel, sklearn.cluster, xarray
import xr_rsembed
from xr_rsembed.explore.app import serve
emb = xr_rsembed.open(sys.argv[1])
emb = emb.load() if sys.argv[2] == "in memory" else emb
def peak():  # a child's ru_maxrss begins with its parent's
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
Path("/proc/self/clear_refs").write_text("5")  # the peak of what is resident begins anew
loaded, before, cpu = peak(), time.perf_counter(), time.process_time()
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
serve(emb, port=port, show=False, threaded=True)
for _ in range(600):
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            break
    time.sleep(0.01)
session = bokeh.client.pull_session(url=f"http://127.0.0.1:{port}")
image = session.document.get_model_by_name("cells").data["image"][0]
seconds, cpu = time.perf_counter() - before, time.process_time() - cpu
assert len(numpy.unique(image)) > 100, "a picture"
memory = (peak() - loaded) / emb.nbytes + (sys.argv[2] == "in memory")
print(json.dumps({"libraries": before - begun, "seconds": seconds, "cpu": cpu, "memory": memory}), flush=True)
os._exit(0)
"""


def run(rounds: int = 3) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = f"{folder}/granule.zarr"
        _granule().rsembed.to_zarr(store)
        taken: dict[str, list[dict[str, float]]] = {"in a store": [], "in memory": []}
        for number in range(rounds + 1):
            for where, found in taken.items():
                command = [sys.executable, "-W", "ignore", "-c", PAGE, store, where]
                done = subprocess.run(command, cwd=measure.ROOT, capture_output=True, text=True, check=True)
                if number:  # the first round only warms the disk
                    found.append(json.loads(done.stdout.splitlines()[-1]))
    rows = {
        where: {key: statistics.median(one[key] for one in found) for key in found[0]}
        for where, found in taken.items()
    }
    print(rows)
    measure.save("explorer", rows, side=SIDE, depth=DEPTH, rounds=rounds)


def _granule() -> Any:
    """Smooth fields in a random basis, with noise, so that neighbouring cells are alike and nothing is simple."""
    import dask.array
    import numpy as np
    import odc.geo.xr  # noqa: F401  (registers .odc)
    import xarray as xr

    import xr_rsembed  # noqa: F401  (registers .rsembed)

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE]
    fields = np.stack([np.sin(x / a + y / b) for a, b in rng.uniform(5, 60, (12, 2))])
    values = np.einsum("kd,kyx->dyx", rng.normal(size=(12, DEPTH)), fields, optimize=True).astype("float32")
    return xr.DataArray(
        dask.array.from_array(values, chunks=(DEPTH, 112, 112)),
        dims=("D", "y", "x"),
        coords={"y": 5_200_000 - 160.0 * np.arange(SIDE), "x": 600_000 + 160.0 * np.arange(SIDE)},
        name="embedding",
    ).odc.assign_crs("EPSG:32632")


if __name__ == "__main__":
    run()
