"""Faults of both providers, at random, in the middle of fetch + embed: right numbers or a named error, nothing else.

``python -m tests.chaos.provider_faults 1000`` injects a thousand and prints a table; it ends with 1 if a run gave
wrong numbers, an error that is none of ours, or more requests than its faults explain.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

import xr_rsembed  # noqa: F401  (registers .rsembed)
from tests import fakes
from tests.servers import earthengine
from tests.servers.earthengine import EarthEngineServer, world
from tests.servers.loopback import Fault
from tests.servers.stac import SIDE_M, TILES, s2_items, stac_api
from xr_rsembed.errors import RsEmbedError
from xr_rsembed.providers import gee_client, retry
from xr_rsembed.providers.fetch import fetch

GRID = GeoBox.from_bbox((264_960, 4_986_000, 265_600, 4_986_640), "EPSG:32633", resolution=10)
WHEN = "2022-06-01/2022-06-20"
SLOW_S, STUCK_S, DEADLINE_S = 0.05, 1.5, 1.0
#: A fault costs at most this many requests more: a read that starts again opens its file again.
REQUESTS_A_FAULT = 8

STAC_FAULTS: dict[str, dict[str, Any]] = {
    "401": {"status": 401},
    "429": {"status": 429},
    "500": {"status": 500},
    "503": {"status": 503},
    "slow": {"slow": SLOW_S},
    "stuck": {"slow": STUCK_S},
    "cut": {"cut": True},
    "truncated": {"short": True},
    "html": {"body": "<html><body>A proxy says hello.</body></html>"},
}
GEE_FAULTS = (
    "401", "429", "500", "503", "slow", "stuck", "cut", "truncated", "html", "empty", "shape", "pickle",
)  # fmt: skip
#: Refusals end a run at once, and a wait costs time: rarer than the rest.
WEIGHTS = {"401": 0.15, "stuck": 0.15}


@dataclass(frozen=True)
class Run:
    """One fetch + embed in trouble, and how it ended."""

    source: str
    faults: tuple[str, ...]  # those that were met
    ending: str  # "right", the name of our error, or what went wrong, with a "!" before it
    requests: int  # more than without faults
    seconds: float


@dataclass(frozen=True)
class Source:
    """A way to the scene, and how to disturb it."""

    name: str
    open: Callable[[], xr.DataArray]
    inject: Callable[[random.Random, str, int], None]
    kinds: Sequence[str]
    met: Callable[[], list[str]]
    requests: Callable[[], int]
    reset: Callable[[], None]


# --- the sources ---------------------------------------------------------------------------------------------


@contextmanager
def stac_sources() -> Iterator[list[Source]]:
    """STAC through both readers."""
    # Nothing kept between runs, and GDAL's own waits as short as ours.
    gdal = {
        "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http",
        "GDAL_HTTP_RETRY_DELAY": "0.01",
        "GDAL_HTTP_TIMEOUT": str(DEADLINE_S),
    }
    with stac_api(lambda root: s2_items(root, "earth-search")) as front:
        given: list[tuple[str, Fault, int]] = []

        def inject(chance: random.Random, kind: str, times: int) -> None:
            path = chance.choices([r"/search", r"\.tif$", r"/B\d.*\.tif$"], [1, 6, 6])[0]
            fault = Fault(path, times=times, **STAC_FAULTS[kind])
            front.faults.append(fault)
            given.append((kind, fault, times))

        def reset() -> None:
            front.reset()
            given.clear()

        def source(reader: str) -> Source:
            return Source(
                reader,
                lambda: fetch("stac", GRID, time=WHEN, catalog=front.url, reader=reader, gdal=gdal),
                inject,
                tuple(STAC_FAULTS),
                lambda: [kind for kind, fault, times in given for _ in range(times - (fault.times or 0))],
                lambda: len(front.log),
                reset,
            )

        yield [source("stackstac"), source("odc")]


@contextmanager
def gee_source() -> Iterator[Source]:
    """Earth Engine."""
    import ee

    corners = [(tile, *tile.origin()) for tile in TILES]
    tiles = [(t.name, t.epsg, (left, top - SIDE_M, left + SIDE_M, top)) for t, left, top in corners]
    with EarthEngineServer(world(tiles=tiles)) as server:

        def inject(chance: random.Random, kind: str, times: int) -> None:
            server.fail(chance.choices(["compute", "computePixels"], [1, 12])[0], kind, times)

        def start() -> xr.DataArray:
            return fetch("gee", GRID, time=WHEN, project="p", url=server.url, chunks=16)

        def reset() -> None:
            server.reset()

        ee.Reset()
        yield Source(
            "gee", start, inject, GEE_FAULTS, lambda: list(server.met), lambda: server.requests.total(), reset
        )
        ee.Reset()


# --- the runs ------------------------------------------------------------------------------------------------


def runs(count: int, seed: int) -> Iterator[Run]:
    """Runs until ``count`` faults were met; the same seed draws the same faults."""
    chance = random.Random(seed)
    fakes.register()
    with (
        patch.object(retry, "FIRST_WAIT_S", 0.01),
        patch.object(gee_client, "DEADLINE_S", DEADLINE_S),
        patch.object(earthengine, "SLOW_S", SLOW_S),
        patch.object(earthengine, "STUCK_S", STUCK_S),
        warnings.catch_warnings(action="ignore"),
        stac_sources() as stac,
        gee_source() as gee,
    ):
        sources = [*stac, gee]
        calm = {source.name: _calm(source) for source in sources}
        met = 0
        while met < count:
            run = _disturbed(sources[chance.randrange(len(sources))], chance, calm)
            met += len(run.faults)
            yield run


def _embedded(source: Source) -> np.ndarray:
    return source.open().rsembed.embed("probe", weights="random").compute().values


def _calm(source: Source) -> tuple[np.ndarray, int]:
    _embedded(source)  # the login and the readers' first steps
    source.reset()
    return _embedded(source), source.requests()


def _disturbed(source: Source, chance: random.Random, calm: dict[str, tuple[np.ndarray, int]]) -> Run:
    right, usual = calm[source.name]
    source.reset()
    weights = [WEIGHTS.get(kind, 1.0) for kind in source.kinds]
    for kind in chance.choices(source.kinds, weights, k=chance.randint(1, 6)):
        source.inject(chance, kind, chance.choices([1, 2, 3, 20], [8, 4, 2, 0.5])[0])
    begun = time.monotonic()
    try:
        ending = "right" if np.array_equal(_embedded(source), right) else "!wrong numbers"
    except RsEmbedError as error:
        ending = type(error).__name__
    except Exception as error:
        ending = f"!{type(error).__name__}: {error}"
    met = source.met()
    more = source.requests() - usual
    if more > REQUESTS_A_FAULT * len(met):
        ending = f"!{more} requests more after {len(met)} faults ({ending})"
    return Run(source.name, tuple(met), ending, more, time.monotonic() - begun)


# --- the table -----------------------------------------------------------------------------------------------


def table(done: Sequence[Run]) -> str:
    """Faults met by kind, and endings, for each source."""
    lines = ["source      runs  faults  more requests  slowest run  endings"]
    for name in dict.fromkeys(run.source for run in done):
        mine = [run for run in done if run.source == name]
        endings = Counter(run.ending for run in mine)
        lines.append(
            f"{name:10} {len(mine):5} {sum(len(run.faults) for run in mine):7} "
            f"{sum(run.requests for run in mine if run.requests > 0):14} "
            f"{max(run.seconds for run in mine):10.1f} s  "
            + ", ".join(f"{count} {ending}" for ending, count in endings.most_common())
        )
    kinds = Counter(kind for run in done for kind in run.faults)
    lines.append("faults: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common()))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", type=int, nargs="?", default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    done = list(runs(chosen.faults, chosen.seed))
    print(table(done))
    return int(any(run.ending.startswith("!") for run in done))


if __name__ == "__main__":
    sys.exit(main())
