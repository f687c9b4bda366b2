"""How each cover looks to each sensor on a day of the year: tables with a row for each cover code.

The spectra are round numbers of the usual kind for temperate Europe, not measurements of a place.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

Array = np.ndarray

# Land-cover classes of Esri's map: value and colour.
LULC = {
    "water": (1, "#2b6cb0"),
    "trees": (2, "#1f6b3a"),
    "crops": (5, "#e3c878"),
    "built": (7, "#c4281b"),
    "bare": (8, "#a59b8f"),
    "rangeland": (11, "#a8c08a"),
}

# Surface reflectance x 10000 of pure materials, in the order of BANDS["S2L2A"].
_SPECTRA = {
    "leaf": (150, 230, 600, 260, 1050, 3500, 4500, 4750, 4900, 4950, 2200, 1050),
    "grass": (240, 340, 760, 520, 1280, 2900, 3500, 3650, 3850, 3850, 2500, 1350),
    "broadleaf": (130, 180, 430, 220, 800, 2600, 3350, 3550, 3700, 3700, 1700, 750),
    "needle": (110, 140, 280, 170, 470, 1350, 1700, 1800, 1900, 1900, 900, 390),
    "straw": (550, 850, 1260, 1590, 1900, 2350, 2650, 2850, 3100, 3150, 3800, 2800),
    "soil": (470, 710, 1010, 1280, 1560, 1800, 1950, 2100, 2250, 2300, 2950, 2550),
    "humus": (300, 400, 560, 740, 900, 1020, 1120, 1220, 1330, 1380, 1850, 1600),
    "stone": (950, 1100, 1280, 1420, 1520, 1600, 1680, 1760, 1820, 1850, 2200, 2050),
    "asphalt": (620, 740, 840, 900, 960, 1030, 1090, 1160, 1210, 1230, 1380, 1290),
    "tile": (600, 720, 1000, 1550, 1800, 1950, 2080, 2200, 2300, 2320, 2750, 2400),
    "metal": (1900, 2250, 2480, 2550, 2600, 2650, 2700, 2750, 2800, 2780, 2700, 2450),
    "clear water": (300, 290, 270, 140, 110, 80, 75, 65, 55, 50, 25, 15),
    "silty water": (430, 520, 760, 640, 560, 290, 260, 230, 180, 150, 50, 35),
}
# Relative change of each band where plants are more vigorous: less red and short-wave, more near infrared.
VIGOUR = np.array([-0.6, -0.7, -0.5, -1, -0.5, 0.35, 0.5, 0.55, 0.5, 0.5, -0.35, -0.7], dtype=np.float32)
# Top of atmosphere = path + transmission x surface, reflectance x 10000.
TOA = np.array(
    [[1020, 720, 400, 230, 190, 150, 120, 90, 60, 20, 20, 10],
     [0.83, 0.87, 0.91, 0.94, 0.94, 0.94, 0.95, 0.95, 0.96, 0.35, 0.96, 0.95]], dtype=np.float32
)  # fmt: skip
CLOUD = np.array([6800, 6900, 6700, 6800, 6900, 7000, 7100, 7200, 7200, 7000, 4300, 3300], dtype=np.float32)


class _Cover(NamedTuple):
    """A cover: plants that come and go over two kinds of ground."""

    name: str
    lulc: str
    roughness: float  # how much a pixel differs from its neighbours, as a share of its reflectance
    plants: str
    share: tuple[float, float]  # of the plants, in winter and at their fullest
    season: tuple[int, int]  # days of the year: half green, half gone
    ground: tuple[str, str]
    vv: tuple[float, float]  # dB, bare and grown
    vh: tuple[float, float]


# fmt: off
_COVERS = [_Cover(*row) for row in (
    ("river", "water", 0.02, "grass", (0, 0), (0, 0), ("silty water", "silty water"), (-19, -19), (-26, -26)),
    ("lake", "water", 0.015, "grass", (0, 0), (0, 0), ("clear water", "clear water"), (-21, -21), (-28, -28)),
    ("wheat", "crops", 0.045, "leaf", (0.2, 0.93), (86, 175), ("soil", "humus"), (-10, -13.5), (-18.5, -20)),
    ("rape", "crops", 0.045, "leaf", (0.25, 0.95), (72, 176), ("soil", "humus"), (-10, -9.5), (-18, -13.5)),
    ("maize", "crops", 0.045, "leaf", (0.02, 0.93), (163, 256), ("soil", "humus"), (-10.5, -9.5), (-19, -15)),
    ("beet", "crops", 0.045, "leaf", (0.02, 0.93), (150, 300), ("soil", "humus"), (-10.5, -8.5), (-19, -14.5)),
    ("fallow", "crops", 0.045, "grass", (0.2, 0.45), (100, 300), ("straw", "soil"), (-11.5, -11.5), (-20, -18.5)),
    ("meadow", "rangeland", 0.045, "grass", (0.35, 0.85), (100, 300), ("straw", "humus"), (-13, -11.5), (-21, -18.5)),
    ("broadleaf", "trees", 0.13, "broadleaf", (0.1, 0.85), (115, 300), ("humus", "needle"), (-9.5, -8.5), (-16, -13.5)),
    ("conifer", "trees", 0.16, "needle", (0.85, 0.85), (0, 0), ("broadleaf", "humus"), (-9, -9), (-14.5, -14.5)),
    ("heath", "rangeland", 0.09, "grass", (0.4, 0.5), (115, 300), ("straw", "soil"), (-11.5, -11), (-18.5, -17.5)),
    ("rock", "bare", 0.12, "grass", (0.15, 0.2), (115, 300), ("stone", "stone"), (-9.5, -9.5), (-18, -18)),
    ("track", "crops", 0.045, "grass", (0.35, 0.45), (100, 300), ("soil", "straw"), (-13, -12), (-21, -19)),
    ("road", "built", 0.07, "grass", (0.15, 0.15), (0, 0), ("asphalt", "asphalt"), (-15, -15), (-23, -23)),
    ("roof", "built", 0.2, "broadleaf", (0.05, 0.15), (115, 300), ("tile", "asphalt"), (-3.5, -3.5), (-12, -12)),
    ("garden", "built", 0.14, "grass", (0.4, 0.65), (105, 300), ("tile", "asphalt"), (-8, -8), (-15, -15)),
    ("works", "built", 0.12, "grass", (0.02, 0.02), (0, 0), ("metal", "asphalt"), (-1.5, -1.5), (-11.5, -11.5)),
)]
# fmt: on
VARIANTS = 8  # looks of one cover: sowing date, vigour, roof, stand age
COVER = {cover.name: number * VARIANTS for number, cover in enumerate(_COVERS)}  # name -> its first code

_SPREAD = np.linspace(-1, 1, VARIANTS)  # early or late, sparse or dense
_MIXTURE = (np.arange(VARIANTS) * 5 % VARIANTS + 0.5) / VARIANTS  # of the two grounds


def _logistic(days: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(days / 7, -50, 50)))


def _plants(cover: _Cover, day: int) -> tuple[Array, Array]:
    """Share of the ground that plants cover, and how far their season is over, each of shape (VARIANTS,)."""
    days = day - 9 * _SPREAD
    gone = _logistic(days - cover.season[1])
    winter, fullest = cover.share
    share = winter + (fullest - winter) * _logistic(days - cover.season[0]) * (1 - gone)
    return share * (1 + 0.12 * _SPREAD), gone


@lru_cache(maxsize=64)
def reflectance(day: int) -> Array:
    """Surface reflectance x 10000 of every cover code on a day of the year, shape (12, codes), float32."""
    rows = []
    for cover in _COVERS:
        share, gone = (a[:, None] for a in _plants(cover, day))
        first, second = (np.array(_SPECTRA[name]) for name in cover.ground)
        ground = second + _MIXTURE[:, None] * (first - second)
        if cover.plants == "leaf":  # stubble
            ground = ground + 0.7 * gone * (np.array(_SPECTRA["straw"]) - ground)
        rows.append(ground + share * (np.array(_SPECTRA[cover.plants]) - ground))
    return np.concatenate(rows).T.astype(np.float32)


@lru_cache(maxsize=64)
def backscatter(day: int) -> Array:
    """Backscatter in dB of every cover code on a day of the year, (VV, VH), shape (2, codes), float32."""
    rows = []
    for cover in _COVERS:
        share, _ = _plants(cover, day)
        rows.append(
            [bare + (grown - bare) * share + 1.6 * (_MIXTURE - 0.5) for bare, grown in (cover.vv, cover.vh)]
        )
    return np.concatenate(rows, axis=1).astype(np.float32)


lulc = np.repeat([LULC[cover.lulc][0] for cover in _COVERS], VARIANTS).astype(np.uint8)
ROUGHNESS = np.repeat([cover.roughness for cover in _COVERS], VARIANTS).astype(np.float32)
