"""A small region with all that makes a large one hard, from the project's own made land.

Two UTM zones with two tiles each, ten dates under two processing baselines, 42 items: a tile split in two halves, a
cloudy scene, swath edges and a hole that no date fills, one asset that cannot be read. The same pixels come as a STAC
catalogue on disk, as a STAC API, and as Earth Engine's collection::

    region = make_region(tmp_path)
    scene = fetch("stac", bbox=region.bbox, time=region.time, catalog=region.catalog)
    with region.stac_api() as server: ...            # fetch("stac", ..., catalog=server.url)
    with EarthEngineServer(region.images()) as server: ...
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.transform import Affine

from xr_rsembed.datasets import synthetic_scene

from . import earthengine
from .loopback import Loopback
from .stac import PLANETARY, RustacServer
from .truth import S2_BANDS

SIDE = 256  # pixels of a tile, 10 m each
DATES = tuple(datetime(2023, 5, 4, 10, 10, tzinfo=UTC) + timedelta(days=5 * i) for i in range(10))
NEW_BASELINE = datetime(2023, 6, 1, tzinfo=UTC)  # from here on products are shifted by 1000
CLOUDY = 3  # the date of the cloudy scene, in every tile
HOLE = np.s_[:, 96:128, 160:208]  # of the first tile: nodata on every date
_LON, _LAT = 12.0, 46.0  # where the zones meet


@dataclass(frozen=True)
class Tile:
    """One tile of one zone: its name, zone, left and top edge, and which rows of its zone's land it shows."""

    name: str
    epsg: int
    left: float
    top: float
    row: int

    @property
    def transform(self) -> Affine:
        return Affine(10, 0, self.left, 0, -10, self.top)

    def ring(self, first: int = 0, last: int = SIDE) -> list[list[float]]:
        """The footprint in degrees of columns ``first`` to ``last``."""
        corners = [(first, 0), (last, 0), (last, SIDE), (first, SIDE), (first, 0)]
        to_degrees = Transformer.from_crs(self.epsg, 4326, always_xy=True)
        return [list(to_degrees.transform(*(self.transform @ corner))) for corner in corners]


def _tiles() -> tuple[Tile, ...]:
    tiles = []
    for epsg, names, shift in ((32632, ("32TQS", "32TQR"), -SIDE * 10), (32633, ("33TTM", "33TTL"), 0)):
        x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(_LON, _LAT)
        left, top = round((x + shift) / 160) * 160.0, round(y / 160) * 160.0
        tiles += [Tile(name, epsg, left, top - row * SIDE * 10, row * SIDE) for row, name in enumerate(names)]
    return tuple(tiles)


TILES = _tiles()


@dataclass(frozen=True)
class Region:
    """The region on disk.

    Parameters
    ----------
    folder : Path
    items : list of dict
        STAC, their assets below ``folder``.
    unreadable : str
        The item whose red band is no raster.
    halves : tuple of str
        The two items of the split tile.
    pixels : dict
        By tile and date: DN with the offset removed, uint16 (12, SIDE, SIDE), 0 where nothing is.
    """

    folder: Path
    items: list[dict]
    unreadable: str
    halves: tuple[str, str]
    pixels: dict[tuple[str, datetime], np.ndarray]

    time = "2023-05-01/2023-07-01"

    @property
    def catalog(self) -> Path:
        """The items as one file, which ``fetch`` takes as ``catalog=``."""
        path = self.folder / "items.json"
        path.write_text(json.dumps({"type": "FeatureCollection", "features": self.items}))
        return path

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """Degrees around all tiles."""
        lon, lat = np.concatenate([tile.ring() for tile in TILES]).T
        return float(lon.min()), float(lat.min()), float(lon.max()), float(lat.max())

    @contextmanager
    def stac_api(self) -> Iterator[Loopback]:
        """The same as a STAC API on loopback, which serves the files too."""
        front = Loopback(self.folder)
        with tempfile.TemporaryDirectory() as scratch:
            served = json.loads(json.dumps(self.items))
            for item in served:
                for asset in item["assets"].values():
                    asset["href"] = f"{front.url}/{asset['href']}"
            rustac = RustacServer(served, Path(scratch), front)
            try:
                yield front
            finally:
                rustac.stop()
                front.stop()

    def images(self) -> dict[str, list[Any]]:
        """The same pixels as Earth Engine has them: harmonized, masked where nothing is; every asset is sound."""
        return {"COPERNICUS/S2_SR_HARMONIZED": [self._image(*key) for key in self.pixels]}

    def _image(self, name: str, when: datetime) -> Any:
        (tile,) = (tile for tile in TILES if tile.name == name)
        pixels = self.pixels[name, when]

        def values(band: str, _: datetime, lon: np.ndarray, lat: np.ndarray, epsg: int) -> Any:
            x, y = Transformer.from_crs(epsg, tile.epsg, always_xy=True).transform(lon, lat)
            column, row = ((x - tile.left) // 10).astype(int), ((tile.top - y) // 10).astype(int)
            clipped = pixels[S2_BANDS.index(band), row.clip(0, SIDE - 1), column.clip(0, SIDE - 1)]
            return np.ma.masked_equal(clipped, 0)

        stamp = f"{when:%Y%m%dT%H%M%S}"
        bounds = (tile.left, tile.top - SIDE * 10, tile.left + SIDE * 10, tile.top)
        return earthengine.scene(
            f"{stamp}_{stamp}_T{name}", when.replace(tzinfo=None), tile.epsg, bounds,
            dict.fromkeys(S2_BANDS, 10), values, CLOUDY_PIXEL_PERCENTAGE=_clouds(when),
        )  # fmt: skip


def make_region(folder: Path) -> Region:
    """Write the region's files below a folder; some 40 MB, a few seconds."""
    items: list[dict] = []
    pixels: dict[tuple[str, datetime], np.ndarray] = {}
    halves: list[str] = []
    for when in DATES:
        for tile in TILES:
            image = pixels[tile.name, when] = _image_of(tile, when)
            split = tile is TILES[1] and when == DATES[6]
            parts = ((0, SIDE // 2), (SIDE // 2, SIDE)) if split else ((0, SIDE),)
            for part, (first, last) in enumerate(parts):
                half = np.zeros_like(image)
                half[:, :, first:last] = image[:, :, first:last]
                items.append(_item(folder, tile, when, half, part, tile.ring(first, last)))
                halves += [items[-1]["id"]] if split else []
    broken = next(
        item for item in items if TILES[2].name in item["id"] and f"{DATES[8]:%Y%m%d}" in item["id"]
    )
    extra = json.loads(json.dumps(broken)) | {"id": broken["id"].replace("S2A", "S2B")}
    extra["properties"]["platform"] = "Sentinel-2B"
    extra["assets"]["B04"]["href"] = "broken.tif"
    (folder / "broken.tif").write_text("This is no raster.")
    return Region(folder, [*items, extra], extra["id"], (halves[0], halves[1]), pixels)


def _clouds(when: datetime) -> float:
    return 80.0 if when == DATES[CLOUDY] else 5.0


@functools.lru_cache(2)
def _land(epsg: int, when: datetime) -> np.ndarray:
    """What both tiles of a zone show on one date."""
    number = DATES.index(when)
    land = synthetic_scene(
        (2 * SIDE, SIDE), time=[f"{when:%Y-%m-%d}"], seed=epsg,
        nodata_share=0.3 if number in (1, 7) else 0.0, clouds=0.8 if number == CLOUDY else 0.0,
    )  # fmt: skip
    return land[0].values


def _image_of(tile: Tile, when: datetime) -> np.ndarray:
    image = _land(tile.epsg, when)[:, tile.row : tile.row + SIDE]
    image = np.where(image > 0, image.clip(1), 0).astype("uint16")
    if tile is TILES[0]:
        image[HOLE] = 0
    return image


def write_tiff(path: Path, pixels: np.ndarray, tile: Tile) -> None:
    """One band of a tile, in one block: GDAL's COG driver takes five times as long for so small a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", "GTiff", tiled=True, blockxsize=SIDE, blockysize=SIDE, height=SIDE, width=SIDE, count=1,
        dtype=pixels.dtype, crs=f"EPSG:{tile.epsg}", transform=tile.transform, nodata=0,
    ) as out:  # fmt: skip
        out.write(pixels, 1)


def _item(
    folder: Path, tile: Tile, when: datetime, image: np.ndarray, part: int, ring: list[list[float]]
) -> dict:
    name = f"S2A_T{tile.name}_{when:%Y%m%d}_{part}_L2A"
    shifted = when >= NEW_BASELINE
    stored = np.where(image > 0, image + 1000 * shifted, 0).astype("uint16")
    assets = {}
    for band, data in zip(S2_BANDS, stored, strict=True):
        href = f"{tile.name}/{when:%Y%m%d}_{part}/{PLANETARY[band]}.tif"
        write_tiff(folder / href, data, tile)
        assets[PLANETARY[band]] = {"href": href, "type": "image/tiff; application=geotiff"}
    lon, lat = zip(*ring, strict=True)
    strip = when + timedelta(seconds=30 * part)
    baseline = "05.09" if shifted else "03.01"
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [min(lon), min(lat), max(lon), max(lat)],
        "properties": {
            "datetime": f"{when:%Y-%m-%dT%H:%M:%SZ}",
            "platform": "Sentinel-2A",
            "proj:code": f"EPSG:{tile.epsg}",
            "eo:cloud_cover": _clouds(when),
            "s2:mgrs_tile": tile.name,
            "s2:processing_baseline": baseline,
            "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_2APS_{when:%Y%m%d}T160000_S{strip:%Y%m%dT%H%M%S}_N{baseline}",
        },
        "assets": assets,
        "links": [],
    }
