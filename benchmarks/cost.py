"""What each feature costs: tiles per second beside the plain embedding of the same scene.

    python benchmarks/cost.py [--model terramind_v1_tiny] [--side 2] [--rounds 5] [--generate] [--json figures.json]

Scenes lie in memory and encoders are loaded beforehand. Every round runs all features in turn, so that no drift of the
machine's speed favours one; figures are medians over the rounds, and the ratio is that of each round's own pair.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import xr_rsembed
from xr_rsembed.datasets import synthetic_scene

TILE = 224
NAMES = ("S2L2A", "S1GRD", "DEM")


def features(model: str, side: int, device: str, generate: bool) -> dict[str, Callable[[], Any]]:
    """Calls by name, over scenes of side x side tiles; the first is the plain embedding."""
    size = (side * TILE, side * TILE)
    scenes = {name: synthetic_scene(size, modality=name, chunks=None) for name in NAMES}
    s2, pair = scenes["S2L2A"], {name: scenes[name] for name in NAMES[:2]}
    common = {"weights": "random", "device": device}

    def embed(scene: Any, **options: Any) -> Callable[[], Any]:
        return lambda: xr_rsembed.embed(scene, model, **common, **options)

    def imagine(output: str) -> Callable[[], Any]:
        return lambda: xr_rsembed.generate(s2, [output], model, overlap=0, timesteps=10, **common)

    calls = {
        "plain": embed(s2),
        "layer=[2, 5, 8, 11]": embed(s2, layer=[2, 5, 8, 11]),
        "6 bands": embed(s2, bands=["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]),
        'merge="mean", 2 modalities': embed(pair),
        'merge="dict", 2 modalities': embed(pair, merge="dict"),
        'merge="mean", 3 modalities': embed(scenes),
        "overlap=112": embed(s2, overlap=112),
        "density=2": embed(s2, density=2),
    }
    if generate:
        calls |= {f'generate(["{output}"])': imagine(output) for output in ("LULC", "S1GRD")}
    return calls


def rows(
    model: str = "terramind_v1_tiny",
    side: int = 2,
    rounds: int = 5,
    device: str = "auto",
    generate: bool = False,
) -> list[dict[str, Any]]:
    """Measure; generation only where asked for, since it takes a hundred times as long as the rest.

    Returns
    -------
    list of dict
        ``feature``; ``tiles_per_s``, the median, of the scene's side x side tiles whatever the feature runs for them;
        ``over_plain``, the median of the seconds over those of the plain embedding in the same round.
    """
    calls = features(model, side, device, generate)
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    plain = seconds["plain"]
    return [
        {
            "feature": name,
            "tiles_per_s": side**2 / statistics.median(taken),
            "over_plain": statistics.median(one / other for one, other in zip(taken, plain, strict=True)),
        }
        for name, taken in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="terramind_v1_tiny")
    parser.add_argument("--side", type=int, default=2, help="tiles a side of the scene")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--generate", action="store_true", help="measure generation too")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with xr_rsembed.set_options(progress=False):
        found = rows(given.model, given.side, given.rounds, given.device, given.generate)
    for row in found:
        print(
            f"{row['feature']:<28} {row['tiles_per_s']:8.2f} tiles/s {row['over_plain']:8.2f} x plain's time"
        )
    if given.json:
        given.json.write_text(json.dumps({"model": given.model, "rows": found}, indent=2))


if __name__ == "__main__":
    main()
