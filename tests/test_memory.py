"""A scene twice as large as memory allows, embedded and stored under a limit that the kernel holds the process to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import reference
from tests.fakes import EMBED_DIM, S2, encode
from xr_rsembed.store.read import open_zarr

resource = pytest.importorskip("resource", reason="limits of a process are POSIX")

ROOT = Path(__file__).resolve().parents[1]
ROOM = 640 * 2**20  # bytes beyond what the libraries take before any pixel is there
CHUNK = 896  # pixels a side: 18 MiB in 12 bands of uint16


def pixels(rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """A window of the scene; cheap, and different everywhere."""
    y, x = (np.arange(*span, dtype="uint16") % 4001 for span in (rows, columns))
    bands = 100 * np.arange(len(S2), dtype="uint16")
    return bands[:, None, None] + (y[:, None] + x)


def embed_under_a_limit(store: str) -> None:
    """In a process of its own: print the limit, the scene's size and the peaks as JSON."""
    import dask
    import dask.array as da
    import torch
    import xarray as xr

    from tests import fakes
    from tests.test_engine import embed, random_pixels, scene_of

    fakes.register()
    torch.set_num_threads(1)
    embed(scene_of(random_pixels(224, 224, seed=0)))  # what is loaded at first use is there now
    limit = status("VmData") + ROOM
    side = int((2 * limit / (2 * len(S2))) ** 0.5) + 1
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def chunk(block_info: dict = {}) -> np.ndarray:  # noqa: B006  dask reads the signature
        _, rows, columns = block_info[None]["array-location"]
        return pixels(rows, columns)

    lengths = (CHUNK,) * (side // CHUNK) + ((side % CHUNK,) if side % CHUNK else ())
    data = da.map_blocks(
        chunk, chunks=((len(S2),), lengths, lengths), dtype="uint16", meta=np.empty((0, 0, 0), "u2")
    )
    scene = xr.DataArray(data, dims=("band", "y", "x"), coords={"band": list(S2)}, attrs={"units": "DN"})
    try:
        np.ones(scene.nbytes, dtype="uint8")
    except MemoryError:
        refused = True
    else:
        refused = False
    with dask.config.set(scheduler="threads", num_workers=2):
        embed(scene).rsembed.to_zarr(store, progress=False)
    said = {"limit": limit, "scene": scene.nbytes, "side": side, "whole scene refused": refused}
    print(json.dumps(said | {"peak RSS": status("VmHWM")}))


def status(name: str) -> int:
    """A size in bytes from ``/proc/self/status``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return int(kib) * 1024


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="RLIMIT_DATA covers every allocation on Linux only"
)
def test_a_scene_twice_as_large_as_memory_allows(tmp_path):
    code = f"from tests.test_memory import embed_under_a_limit; embed_under_a_limit({str(tmp_path / 'emb.zarr')!r})"
    # As few arenas as threads that work: glibc reserves 64 MiB of addresses for each.
    child = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=ROOT,
        env={**os.environ, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    said = json.loads(child.stdout)
    print(" ".join(f"{name} {value / 2**20:.0f} MiB" for name, value in said.items() if value > 10**6))
    assert said["whole scene refused"], said
    assert said["scene"] >= 2 * said["limit"], said
    assert said["peak RSS"] < said["scene"] / 2, said
    stored = open_zarr(tmp_path / "emb.zarr")
    cells = -(-said["side"] // 16)
    assert stored.shape == (EMBED_DIM, cells, cells)
    assert not bool(np.isnan(stored).any())
    corner = reference.embed(pixels((0, 672), (0, 672)), lambda x: np.clip(x / 1000, 0, 10), encode)
    np.testing.assert_allclose(stored[:, :42, :42], corner, rtol=1e-5, atol=1e-5)
