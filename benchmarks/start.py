"""A fresh process to its first embedding: wall time and memory, beside what torch and xarray alone take.

python -m benchmarks start
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import measure

MODEL = "terramind_v1_small"
BEFORE = "fec2ed7"  # the last commit whose encoder was TerraTorch's
EMBED = f"""
import xr_rsembed
from xr_rsembed.scenes import open_scene
scene = open_scene("scene.tif")
xr_rsembed.embed(scene, "{MODEL}", weights="random", device="cpu").values
"""
WORKER = f"""
from distributed import Client, LocalCluster
import xr_rsembed
from xr_rsembed.scenes import open_scene
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as cluster, Client(cluster) as client:
        scene = open_scene("scene.tif").chunk()
        lazy = xr_rsembed.embed(scene, "{MODEL}", weights="random", device="cpu")
        import json, resource, time
        start = time.perf_counter()
        lazy.compute()
        seconds = time.perf_counter() - start
        (kib,) = client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss).values()
        print(json.dumps([seconds, kib / 1024]))
"""


def run(rounds: int = 5) -> None:
    import rioxarray  # noqa: F401

    from xr_rsembed.datasets import synthetic_scene

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = synthetic_scene((224, 224))
        scene.rio.to_raster(folder / "scene.tif")
        (folder / "worker.py").write_text(WORKER)
        before = _checkout(folder / "before")
        ways: dict[str, tuple[list[str], Path | None]] = {
            "import torch, xarray": ([sys.executable, "-c", "import torch, xarray"], None),
            "first embedding": ([sys.executable, "-c", EMBED], measure.ROOT),
            "xr-rsembed embed": (
                [
                    *(sys.executable, "-c", "import sys; from xr_rsembed.cli import main; sys.exit(main())"),
                    *("embed", "scene.tif", "--output", "emb.zarr", "--overwrite"),
                    *("--model", MODEL, "--weights", "random", "--device", "cpu"),
                ],
                measure.ROOT,
            ),
            "a worker's first block": ([sys.executable, "worker.py"], measure.ROOT),
        }
        if before is not None:
            ways[f"first embedding at {BEFORE}"] = ([sys.executable, "-c", EMBED], before)
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for number in range(rounds + 1):
            for way, (command, path) in ways.items():
                found = _one(command, folder, path)
                if number:  # the first round only warms the disk
                    taken[way].append(found)
    first = taken["import torch, xarray"]
    rows = {
        way: {
            "seconds": statistics.median(seconds for seconds, _ in found),
            "mib": statistics.median(mib for _, mib in found),
            "ratio": statistics.median(one[0] / base[0] for one, base in zip(found, first, strict=True)),
            "more_mib": statistics.median(one[1] - base[1] for one, base in zip(found, first, strict=True)),
        }
        for way, found in taken.items()
    }
    measure.save("start", rows, model=MODEL, before=BEFORE, rounds=rounds)


def _one(command: list[str], folder: Path, path: Path | None) -> tuple[float, float]:
    """Seconds and MiB of a process; a worker says its own."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "RS_EMBED_PROGRESS": "0"}
    environment |= {"PYTHONPATH": str(path)} if path else {}
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{command} ended with {status}")
    if said.startswith("["):
        own: Any = said.strip("[]\n").split(",")
        return float(own[0]), float(own[1])
    return seconds, usage.ru_maxrss / 1024


def _checkout(folder: Path) -> Path | None:
    """The package as it was; None outside its repository."""
    archive = subprocess.run(
        ["git", "archive", BEFORE, "xr_rsembed"], cwd=measure.ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        return None
    folder.mkdir()
    subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
    return folder
