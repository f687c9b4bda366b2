"""Fetching, measured: a median of 8 dates beside plain scripts; fetch + embed overlapped and one after the other.

    python benchmarks/fetch.py [--rounds 5] [--latency-ms 25] [--json figures.json]

COGs of 5 x 5 km and some more are made in a temporary folder and served with HTTP ranges by a process of its own,
every request answered after a fixed latency. What is compared runs in turn within each round, under addresses of its
own, so that no cache and no drift of the machine's speed favours one side; figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import xr_rsembed
from tests.servers.loopback import Fault, Loopback
from tests.servers.stac import EARTH_SEARCH, write_cog
from tests.servers.truth import RESOLUTION, S2_BANDS
from xr_rsembed.places import get_embeddings_batch
from xr_rsembed.providers.fetch import fetch
from xr_rsembed.specs import PointBuffer, SensorSpec

DATES = [datetime(2022, 6, 1, 10, tzinfo=UTC) + timedelta(days=5 * i) for i in range(8)]
TIME = "2022-06-01/2022-08-01"
WORLD = GeoBox.from_bbox((600_000, 4_990_000, 607_680, 4_997_680), "EPSG:32632", resolution=10)
WANTED = WORLD[100:600, 100:600]  # 5 x 5 km
MODEL = "terramind_v1_small"
PLACES = [(200 + 130 * (i % 4), 200 + 130 * (i // 4)) for i in range(12)]  # pixels of WORLD


def write_world(folder: Path) -> None:
    """Smooth land under noise, so that blocks compress about as real ones do."""
    rng = np.random.default_rng(0)
    for band in S2_BANDS:
        grid = WORLD.zoom_out(RESOLUTION[band] / 10)
        y, x = np.mgrid[: grid.shape.y, : grid.shape.x]
        land = 2000 + 800 * np.sin(x / 90) * np.cos(y / 70)
        for number in range(len(DATES)):
            pixels = (land + rng.normal(0, 150, land.shape)).astype("uint16")
            write_cog(folder / f"{number}/{band}.tif", pixels, grid.transform, 32632, 0)


def items(root: str, run: int) -> list[dict[str, Any]]:
    """STAC items under addresses that no other run uses."""
    outline = WORLD.geographic_extent
    return [
        {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": f"S2A_32TNR_{when:%Y%m%d}",
            "collection": "sentinel-2-l2a",
            "geometry": outline.json,
            "bbox": list(outline.boundingbox.bbox),
            "properties": {
                "datetime": f"{when:%Y-%m-%dT%H:%M:%SZ}",
                "proj:code": "EPSG:32632",
                "eo:cloud_cover": 1,
                "s2:processing_baseline": "03.01",
            },
            "links": [],
            "assets": {
                key: {
                    "href": f"{root}/{number}/{band}.tif?run={run}",
                    "type": "image/tiff",
                    "proj:transform": list(WORLD.zoom_out(RESOLUTION[band] / 10).transform)[:6],
                    "proj:shape": list(WORLD.zoom_out(RESOLUTION[band] / 10).shape.yx),
                }
                for band, key in EARTH_SEARCH.items()
                if band != "SCL"
            },
        }
        for number, when in enumerate(DATES)
    ]


def serve(folder: str, latency_s: float, where: Any) -> None:
    server = Loopback(Path(folder))
    server.faults.append(Fault(".*", slow=latency_s, times=None))
    where.send(server.url)
    where.recv()


# --- what is compared --------------------------------------------------------------------------------------


def by_stackstac(found: list[dict[str, Any]], workers: int) -> np.ndarray:
    import stackstac

    cube = stackstac.stack(
        found,
        assets=[EARTH_SEARCH[band] for band in S2_BANDS],
        epsg=32632,
        bounds=tuple(WANTED.boundingbox.bbox),
        resolution=10,
        dtype="uint16",
        fill_value=np.uint16(0),
        rescale=False,
    )
    return cube.where(cube > 0).median("time").compute(scheduler="threads", num_workers=workers).values


def by_odc(found: list[dict[str, Any]], workers: int) -> np.ndarray:
    import odc.stac
    import pystac

    bands = [EARTH_SEARCH[band] for band in S2_BANDS]
    cube = odc.stac.load(
        [pystac.Item.from_dict(item) for item in found],
        bands=bands,
        geobox=WANTED,
        chunks={},
        groupby="solar_day",
    ).to_array("band")
    return cube.where(cube > 0).median("time").compute(scheduler="threads", num_workers=workers).values


def ours(found: list[dict[str, Any]], reader: str, folder: Path) -> np.ndarray:
    path = as_file(found, folder)
    return fetch("stac", WANTED, time=TIME, catalog=path, reader=reader).compute().values


def as_file(found: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / f"items-{time.perf_counter_ns()}.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": found}))
    return path


def spots() -> list[PointBuffer]:
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(32632, 4326, always_xy=True)
    return [PointBuffer(*to_degrees.transform(*(WORLD.transform * (x, y))), buffer_m=1100) for x, y in PLACES]


def overlapped(found: list[dict[str, Any]], folder: Path) -> np.ndarray:
    cube = get_embeddings_batch(
        MODEL,
        spatials=spots(),
        temporal=TIME,
        sensor=SensorSpec(),
        backend_options={"catalog": as_file(found, folder)},
        weights="random",
    )
    return cube.values


def one_after_the_other(found: list[dict[str, Any]], folder: Path) -> np.ndarray:
    path = as_file(found, folder)
    vectors = []
    for spot in spots():
        scene = fetch("stac", spot, time=TIME, catalog=path).compute()
        vectors.append(scene.rsembed.embed(MODEL, weights="random", output="pooled").values)
    return np.stack(vectors)


# --- measuring ---------------------------------------------------------------------------------------------


def in_turn(
    runs: dict[str, Callable[[list[dict[str, Any]]], np.ndarray]], root: str, rounds: int
) -> dict[str, float]:
    """Median seconds of each run; a first round warms up and checks that all give the same numbers."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    number = 0
    for turn in range(rounds + 1):
        results = []
        for name, run in runs.items():
            number += 1
            found = items(root, run=1000 * os.getpid() + number)
            start = time.perf_counter()
            results.append(run(found))
            if turn:
                seconds[name].append(time.perf_counter() - start)
        # Plain scripts keep the half of an even median, ours rounds it.
        assert all(np.abs(result - results[0]).max() <= 0.5 for result in results), "results differ"
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--latency-ms", type=float, default=25.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    xr_rsembed.set_options(progress=False)
    os.environ.setdefault("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR")  # what plain scripts are told to set
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_world(folder)
        here, there = multiprocessing.get_context("spawn").Pipe()
        server = multiprocessing.get_context("spawn").Process(
            target=serve, args=(scratch, arguments.latency_ms / 1000, there), daemon=True
        )
        server.start()
        root = here.recv()
        workers = xr_rsembed.get_option("terramind.fetch_workers")
        medians = in_turn(
            {
                "xr-rsembed, stackstac": lambda found: ours(found, "stackstac", folder),
                "xr-rsembed, odc": lambda found: ours(found, "odc", folder),
                "plain stackstac": lambda found: by_stackstac(found, os.cpu_count() or 1),
                f"plain stackstac, {workers} threads": lambda found: by_stackstac(found, workers),
                "plain odc-stac": lambda found: by_odc(found, os.cpu_count() or 1),
                f"plain odc-stac, {workers} threads": lambda found: by_odc(found, workers),
            },
            root,
            arguments.rounds,
        )
        places = in_turn(
            {
                "fetch + embed, overlapped": lambda found: overlapped(found, folder),
                "fetch + embed, one after the other": lambda found: one_after_the_other(found, folder),
            },
            root,
            arguments.rounds,
        )
        here.send("stop")
        server.join()
    figures = {
        "rounds": arguments.rounds,
        "latency_ms": arguments.latency_ms,
        "seconds": {name: round(value, 3) for name, value in (medians | places).items()},
        "ratios": {
            **{
                f"{plain} / xr-rsembed, {reader}": round(medians[plain] / medians[f"xr-rsembed, {reader}"], 2)
                for plain in medians
                if plain.startswith("plain")
                for reader in ["stackstac" if "stackstac" in plain else "odc"]
            },
            "one after the other / overlapped": round(
                places["fetch + embed, one after the other"] / places["fetch + embed, overlapped"], 2
            ),
        },
    }
    print(json.dumps(figures, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
