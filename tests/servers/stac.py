"""A STAC API (``rustac serve``) over COGs of the world in ``truth``, in the dialects of public catalogues."""

from __future__ import annotations

import atexit
import copy
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.transform import Affine

from .truth import (
    LAT,
    LON,
    RESOLUTION,
    S1_ACQUISITIONS,
    S2_ACQUISITIONS,
    S2_BANDS,
    Acquisition,
    backscatter,
    dn,
    pixel_centres,
)

if TYPE_CHECKING:
    from .loopback import Loopback

SIDE_M = 4800  # of a tile; whole pixels of 10, 20 and 60 m
BLOCK = 128  # of a COG
_COLOURS = "coastal blue green red rededge1 rededge2 rededge3 nir nir08 nir09 swir16 swir22 scl"
EARTH_SEARCH = dict(zip((*S2_BANDS, "SCL"), _COLOURS.split(), strict=True))
PLANETARY = {b: b if b in ("B8A", "SCL", "B11", "B12") else f"B0{b[1:]}" for b in (*S2_BANDS, "SCL")}
CDSE = {b: f"{PLANETARY[b]}_{RESOLUTION[b]}m" for b in (*S2_BANDS, "SCL")}


@dataclass(frozen=True)
class Tile:
    """One product tile in its own UTM zone."""

    name: str
    epsg: int
    east_of_centre: int  # of its left edge, metres from 12 E

    def origin(self) -> tuple[float, float]:
        x, y = Transformer.from_crs(4326, self.epsg, always_xy=True).transform(LON, LAT)
        return round((x + self.east_of_centre) / 480) * 480.0, round((y + SIDE_M / 2) / 480) * 480.0

    def grid(self, resolution: int) -> tuple[Affine, tuple[int, int]]:
        left, top = self.origin()
        return Affine(resolution, 0, left, 0, -resolution, top), (SIDE_M // resolution,) * 2

    def lonlat(self, resolution: int) -> tuple[np.ndarray, np.ndarray]:
        """Longitude and latitude of the pixels' centres: worked out once, they serve every band and date."""
        transform, shape = self.grid(resolution)
        to_degrees = Transformer.from_crs(self.epsg, 4326, always_xy=True)
        return to_degrees.transform(*pixel_centres(tuple(transform), shape))

    def footprint(self) -> list[list[float]]:
        left, top = self.origin()
        corners = [(0, 0), (1, 0), (1, -1), (0, -1), (0, 0)]
        to_degrees = Transformer.from_crs(self.epsg, 4326, always_xy=True)
        return [list(to_degrees.transform(left + SIDE_M * i, top + SIDE_M * j)) for i, j in corners]


#: Two tiles that overlap around 12 E, each in its own zone.
TILES = (Tile("32TQQ", 32632, -3600), Tile("33TTK", 32633, -1200))


def write_cog(path: Path, pixels: np.ndarray, transform: Affine, epsg: int, nodata: float) -> None:
    """One band as a COG with small blocks, through GDAL's own COG driver."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"driver": "COG", "BLOCKSIZE": BLOCK, "COMPRESS": "DEFLATE", "OVERVIEW_RESAMPLING": "NEAREST"}
    height, width = pixels.shape
    with rasterio.open(
        path, "w", **options, height=height, width=width, count=1, dtype=pixels.dtype,
        crs=f"EPSG:{epsg}", transform=transform, nodata=nodata,
    ) as out:  # fmt: skip
        out.write(pixels, 1)


def write_world(folder: Path) -> None:
    """Every COG of both tiles and all dates; ``_h`` marks a file whose offset is removed already."""
    jobs = []
    for tile in TILES:
        grids = {
            resolution: (tile.grid(resolution)[0], tile.lonlat(resolution)) for resolution in (10, 20, 60)
        }
        for pass_ in S2_ACQUISITIONS:
            for band in (*S2_BANDS, "SCL"):
                transform, lonlat = grids[RESOLUTION[band]]
                pixels = dn(band, pass_.when, *lonlat, 4326)
                stored = pixels if band == "SCL" else pixels + np.uint16(pass_.offset)
                jobs.append((folder / s2_path(tile, pass_, band), stored, transform, tile.epsg, 0))
                if pass_.baseline == "05.09" and band != "SCL":
                    jobs.append((folder / s2_path(tile, pass_, band, "_h"), pixels, transform, tile.epsg, 0))
        for pass_ in S1_ACQUISITIONS:
            for band in ("VV", "VH"):
                transform, lonlat = grids[10]
                pixels = backscatter(band, pass_.when, *lonlat, 4326)
                jobs.append((folder / s1_path(tile, pass_, band), pixels, transform, tile.epsg, -32768))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda job: write_cog(*job), jobs))


def s2_path(tile: Tile, pass_: Acquisition, band: str, mark: str = "") -> str:
    return f"s2/{tile.name}/{pass_.day}/{band}{mark}.tif"


def s1_path(tile: Tile, pass_: Acquisition, band: str) -> str:
    return f"s1/{tile.name}/{pass_.day}/{band}.tif"


def _item(name: str, tile: Tile, pass_: Acquisition, collection: str, properties: dict, assets: dict) -> dict:
    ring = tile.footprint()
    lons, lats = zip(*ring, strict=True)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"],
        "id": name,
        "collection": collection,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [min(lons), min(lats), max(lons), max(lats)],
        "properties": {"datetime": f"{pass_.when:%Y-%m-%dT%H:%M:%SZ}", "proj:epsg": tile.epsg, **properties},
        "assets": assets,
        "links": [],
    }


def _asset(href: str, tile: Tile, resolution: int, **more: Any) -> dict:
    transform, shape = tile.grid(resolution)
    return {
        "href": href,
        "type": "image/tiff",
        "proj:transform": list(transform)[:6],
        "proj:shape": list(shape),
        **more,
    }


def s2_items(root: str, dialect: str) -> list[dict]:
    """Sentinel-2 items as ``earth-search``, ``c1``, ``planetary-computer`` or ``cdse`` describe them."""
    names = {"earth-search": EARTH_SEARCH, "c1": EARTH_SEARCH, "planetary-computer": PLANETARY, "cdse": CDSE}[
        dialect
    ]
    collection = "sentinel-2-c1-l2a" if dialect == "c1" else "sentinel-2-l2a"
    items = []
    for tile in TILES:
        for pass_ in S2_ACQUISITIONS:
            # As in the wild: Earth Search's flag says that the offset is gone, and the asset still names it.
            removed = dialect == "earth-search" and pass_.baseline == "05.09"
            properties = {
                "eo:cloud_cover": pass_.cloud_cover,
                "s2:processing_baseline": pass_.baseline,
                "grid:code": f"MGRS-{tile.name}",
            }
            if dialect == "earth-search":
                properties["earthsearch:boa_offset_applied"] = removed
            assets = {}
            for band, key in names.items():
                href = f"{root}/{s2_path(tile, pass_, band, '_h' if removed and band != 'SCL' else '')}"
                offset, more = -0.0001 * pass_.offset, {}
                if dialect in ("earth-search", "c1") and band != "SCL":
                    more = {"raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": offset}]}
                if dialect == "cdse" and band != "SCL":
                    more = {"raster:scale": 0.0001, "raster:offset": offset}
                assets[key] = _asset(href, tile, RESOLUTION[band], **more)
            name = f"S2A_{tile.name}_{pass_.when:%Y%m%d}_L2A"
            items.append(_item(name, tile, pass_, collection, properties, assets))
    return items


def s1_items(root: str, mode: str = "IW") -> list[dict]:
    """Sentinel-1 RTC items as Planetary Computer describes them."""
    items = []
    for tile in TILES:
        for pass_ in S1_ACQUISITIONS:
            assets = {b.lower(): _asset(f"{root}/{s1_path(tile, pass_, b)}", tile, 10) for b in ("VV", "VH")}
            properties = {"sar:instrument_mode": mode, "sar:polarizations": ["VV", "VH"]}
            name = f"S1A_{mode}_{tile.name}_{pass_.when:%Y%m%d}_rtc"
            items.append(_item(name, tile, pass_, "sentinel-1-rtc", properties, assets))
    return items


class RustacServer:
    """``rustac serve`` in a process of its own, reached through the loopback server."""

    def __init__(self, items: list[dict], folder: Path, front: Loopback) -> None:
        path = folder / "items.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        binary = shutil.which("rustac", path=str(Path(sys.executable).parent)) or "rustac"
        self._process = subprocess.Popen(
            [binary, "serve", str(path), "-a", front.url, "-b", f"127.0.0.1:{port}", "--create-collections"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._wait_for(port)
        front.backend = f"http://127.0.0.1:{port}"

    def _wait_for(self, port: int) -> None:
        for _ in range(500):
            if self._process.poll() is not None:
                raise RuntimeError(f"rustac serve ended with {self._process.returncode}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError("rustac serve does not answer")

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


@cache
def world_folder() -> Path:
    """The world on disk, written once in a process and taken away at its end."""
    folder = Path(tempfile.mkdtemp(prefix="rsembed-stac-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_world(folder)
    return folder


@contextmanager
def stac_api(items: Callable[[str], list[dict]]) -> Iterator[Loopback]:
    """A STAC API and the files of its items at one address; ``items`` is called with that address."""
    from .loopback import Loopback  # here, so that the world alone needs no package of the tests

    front = Loopback(world_folder())
    with tempfile.TemporaryDirectory() as scratch:
        rustac = RustacServer(items(front.url), Path(scratch), front)
        try:
            yield front
        finally:
            rustac.stop()
            front.stop()


def write_catalog(folder: Path, items: list[dict]) -> Path:
    """A static catalogue, catalog.json with the items beside it."""
    links = [{"rel": "item", "href": f"./{item['id']}.json", "type": "application/json"} for item in items]
    catalog = {
        "type": "Catalog",
        "id": "local",
        "description": "made land",
        "stac_version": "1.0.0",
        "links": links,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "catalog.json").write_text(json.dumps(catalog))
    for item in items:
        (folder / f"{item['id']}.json").write_text(json.dumps(item))
    return folder / "catalog.json"


def edited(items: list[dict], **properties: Any) -> list[dict]:
    """A deep copy of the items with properties set, or taken out where the value is None."""
    copies = copy.deepcopy(items)
    for item in copies:
        for key, value in properties.items():
            item["properties"].pop(key, None)
            if value is not None:
                item["properties"][key] = value
    return copies
