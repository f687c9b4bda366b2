"""The engine beside an earlier commit of it, in turn: `center`, `mean`, chips, and a granule's memory.

    python -m benchmarks.engine [--against fec2ed7] [--rounds 3] [--side 20]

The earlier commit is checked out beside this one. Run it on a quiet machine: the ratios are what counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import measure

TILE = 224
CASES: dict[str, dict[str, Any]] = {
    "center": {},
    "center, overlap 64": {"overlap": 64},
    "mean, overlap 64": {"overlap": 64, "blend": "mean"},
    "chips of 64 px": {"chips": True},
}


def run(against: str = "fec2ed7", rounds: int = 3, side: int = 20, model: str = "terramind_v1_tiny") -> None:
    with tempfile.TemporaryDirectory(prefix="rsembed-earlier-") as folder:
        before = f"{folder}/{against}"
        subprocess.run(["git", "worktree", "add", "--detach", before, against], cwd=measure.ROOT, check=True)
        try:
            rows = {name: _case(before, case, rounds, side, model) for name, case in CASES.items()}
            rows["granule"] = _granule(folder, before, model)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", before], cwd=measure.ROOT, check=True)
    measure.save("engine", rows, each_cpu=True, against=against, rounds=rounds, side=side, model=model)


def _case(before: str, case: dict[str, Any], rounds: int, side: int, model: str) -> dict[str, Any]:
    given = {"model": model, "side": side, **case}
    named = {"before": {**given, "root": before}, "now": {**given, "root": str(measure.ROOT)}}
    found = measure.duel("benchmarks.engine", named, rounds, side**2)
    print(
        case, {name: (round(one["ms"], 2), round(one["speed"], 3)) for name, one in found.items()}, flush=True
    )
    return found


def _granule(folder: str, before: str, model: str) -> dict[str, Any]:
    from benchmarks.granule import SIDE, write_scene

    write_scene(f"{folder}/scene.zarr", SIDE)
    found = {}
    for name, root in (("before", before), ("now", str(measure.ROOT))):
        command = [sys.executable, "-m", "benchmarks.granule", folder, str(SIDE), model]
        done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        subprocess.run(["rm", "-rf", f"{folder}/embedding-{SIDE}.zarr"], check=True)
        print("granule", name, round(found[name]["peak_mib"] - found[name]["torch_mib"]), "MiB", flush=True)
    return found


def prepare(model: str, side: int, root: str, chips: bool = False, **options: Any) -> Callable[[], None]:
    """A contender: a scene of side x side tiles in chunks that are not tiles, or as many chips."""
    import numpy as np
    import xarray as xr

    import xr_rsembed
    from xr_rsembed.datasets import synthetic_scene

    assert Path(xr_rsembed.__file__).is_relative_to(root)
    if chips:
        one = synthetic_scene((64, 64)).compute()
        scene = xr.concat([one] * side**2, "chip").chunk(chip=1).assign_attrs(one.attrs)
    else:
        scene = synthetic_scene((side * TILE, side * TILE)).compute().chunk({"y": 600, "x": 600})

    def work() -> None:
        values = xr_rsembed.embed(scene, model, weights="random", device="cpu", **options).compute()
        assert np.isfinite(values).all()

    return work


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--against", default="fec2ed7")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=20)
    run(**vars(parser.parse_args()))


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].startswith("{"):
        measure.serve(prepare)
    else:
        main()
