"""The world that every test server shows: Sentinel-2 and Sentinel-1 scenes by formulas of place and date.

Values hang on longitude and latitude, so two UTM zones, two servers and two readers see the same world, and a
test can ask for the true value at any pixel. The world sits where zones 32 and 33 meet, at 12 E 45 N.
Import it as ``from .servers.truth import truth``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from pyproj import Transformer

LON, LAT = 12.0, 45.0
S2_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")
RESOLUTION = {
    b: 60 if b in ("B1", "B9") else 10 if b in ("B2", "B3", "B4", "B8") else 20 for b in S2_BANDS
} | {"SCL": 20}
BOA_OFFSET = 1000  # added to the stored DN since baseline 04.00; the truth below is without it
CLOUD_DN = 9000


@dataclass(frozen=True)
class Acquisition:
    """One pass of a satellite over the whole world."""

    when: datetime
    cloud_cover: float
    baseline: str  # Sentinel-2 processing baseline: "03.01" stores the truth, "04.00" the truth + 1000

    @property
    def day(self) -> str:
        return f"{self.when:%Y-%m-%d}"

    @property
    def offset(self) -> int:
        return BOA_OFFSET if self.baseline >= "04.00" else 0


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


#: Old and new baselines mixed, as after a reprocessing; the fourth is too cloudy for the usual limit of 30 %.
S2_ACQUISITIONS = (
    Acquisition(_at("2022-06-03T10:10:31"), 5.0, "03.01"),
    Acquisition(_at("2022-06-13T10:10:31"), 12.5, "04.00"),
    Acquisition(_at("2022-06-23T10:10:31"), 20.0, "04.00"),
    Acquisition(_at("2022-07-03T10:10:31"), 85.0, "04.00"),
    Acquisition(_at("2022-07-13T10:10:31"), 0.0, "05.09"),
)
S1_ACQUISITIONS = (
    Acquisition(_at("2022-06-05T05:27:00"), 0.0, ""),
    Acquisition(_at("2022-06-17T05:27:00"), 0.0, ""),
)


def _lonlat(x: np.ndarray, y: np.ndarray, epsg: int) -> tuple[np.ndarray, np.ndarray]:
    if epsg == 4326:
        return np.asarray(x, float), np.asarray(y, float)
    return Transformer.from_crs(epsg, 4326, always_xy=True).transform(x, y)


def _day_number(when: datetime) -> int:
    return when.toordinal() - datetime(2022, 6, 1).toordinal()


def truth(band: str, when: datetime, x: np.ndarray, y: np.ndarray, epsg: int) -> np.ndarray:
    """The harmonized DN of a Sentinel-2 band, without clouds: float64, smooth, from about 800 to 4000.

    The slope stays below 0.2 DN per metre, so a pixel taken 10 m away differs by at most 2 DN or so.
    """
    lon, lat = _lonlat(x, y, epsg)
    index = S2_BANDS.index(band)
    east, north = (lon - LON) * 78_000, (lat - LAT) * 111_000
    waves = 60 * np.sin(east / 900 + index) + 60 * np.cos(north / 700 - index)
    return 1000 + 200 * index + 3 * _day_number(when) + waves


def clouds(when: datetime, x: np.ndarray, y: np.ndarray, epsg: int) -> np.ndarray:
    """Where this acquisition sees a cloud (bool): discs of 300 m radius that move 500 m in ten days."""
    lon, lat = _lonlat(x, y, epsg)
    east, north = (lon - LON) * 78_000, (lat - LAT) * 111_000
    shift = 500.0 * (_day_number(when) / 10)
    in_disc = ((east - shift + 1500) % 3000 - 1500) ** 2 + ((north + 600) % 1200 - 600) ** 2 < 300**2
    cloudy = any(a.when == when and a.cloud_cover > 0 for a in S2_ACQUISITIONS)
    return in_disc & cloudy


def dn(band: str, when: datetime, x: np.ndarray, y: np.ndarray, epsg: int) -> np.ndarray:
    """The harmonized uint16 DN as the satellite sees it, with clouds; "SCL": the class (8 cloud, 4 land)."""
    cloudy = clouds(when, x, y, epsg)
    if band == "SCL":
        return np.where(cloudy, 8, 4).astype("uint8")
    return np.where(cloudy, CLOUD_DN, np.rint(truth(band, when, x, y, epsg))).astype("uint16")


def backscatter(polarization: str, when: datetime, x: np.ndarray, y: np.ndarray, epsg: int) -> np.ndarray:
    """Sentinel-1 linear power (float32): VV about 0.2, VH about 0.05."""
    lon, lat = _lonlat(x, y, epsg)
    east, north = (lon - LON) * 78_000, (lat - LAT) * 111_000
    level = {"VV": 0.2, "VH": 0.05}[polarization]
    waves = 1 + 0.3 * np.sin(east / 900) * np.cos(north / 700) + 0.002 * _day_number(when)
    return (level * waves).astype("float32")


def pixel_centres(transform: tuple[float, ...], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """x and y, each (rows, columns), of a north-up grid with these affine coefficients (a, b, c, d, e, f)."""
    a, _, c, _, e, f = transform[:6]
    rows, columns = shape
    return np.meshgrid(c + a * (np.arange(columns) + 0.5), f + e * (np.arange(rows) + 0.5))
