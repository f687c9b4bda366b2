"""How much seam an overlap buys off, and for what.

    python -m benchmarks seams [--model terramind_v1_tiny]

The seam is the mean step between neighbouring cells across the borders of tiles, over the mean step inside tiles: 1.0
is no seam at all.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks import measure

SETTINGS = (
    (0, "center"), (32, "center"), (64, "center"), (112, "center"), (32, "mean"), (64, "mean"), (112, "mean"),
)  # fmt: skip


def run(model: str = "terramind_v1_tiny", rounds: int = 3) -> None:
    import statistics

    import xr_rsembed
    from benchmarks.speed import TILE
    from xr_rsembed.datasets import synthetic_scene

    pixels = synthetic_scene((4 * TILE, 4 * TILE)).compute()
    taken: dict[tuple[int, str], list[float]] = {one: [] for one in SETTINGS}
    rows: list[dict[str, Any]] = []
    for _ in range(rounds):
        for overlap, blend in SETTINGS:
            start = time.perf_counter()
            embedding = xr_rsembed.embed(
                pixels, model, weights="random", device="cpu", overlap=overlap, blend=blend
            )
            taken[overlap, blend].append(time.perf_counter() - start)
            if len(rows) < len(SETTINGS):
                rows.append({"overlap": overlap, "blend": blend, "seam": seam(embedding.values, overlap)})
    plain = taken[SETTINGS[0]]
    for row in rows:
        own = taken[row["overlap"], row["blend"]]
        row["cost"] = statistics.median(a / b for a, b in zip(own, plain, strict=True))
        print(row, flush=True)
    measure.save("seams", rows, model=model, weights="random")


def seam(values: np.ndarray, overlap: int) -> float:
    """values (D, y, x): the mean step where the nearest tile changes over the mean step elsewhere, along both axes."""
    from xr_rsembed.tiling import plan_axis

    across, inside = [], []
    for axis in (1, 2):
        owner = plan_axis(values.shape[axis] * 16, overlap).owner
        steps = np.linalg.norm(np.diff(values, axis=axis), axis=0).mean(axis=2 - axis)
        border = np.diff(owner) != 0
        across.append(steps[border].mean())
        inside.append(steps[~border].mean())
    return float(np.mean(across) / np.mean(inside))
