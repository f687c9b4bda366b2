"""How each cover looks to each sensor on a day of the year: tables of one row a cover code.

The spectra are round numbers of the usual kind for temperate Europe, not measurements of a place.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from xr_rsembed.datasets._land import COVER, VARIANTS
from xr_rsembed.datasets._noise import mix, uniform

__all__ = [
    "CLOUD",
    "LULC_CLASSES",
    "ROUGHNESS",
    "S2_BANDS",
    "TOA",
    "VIGOUR",
    "backscatter",
    "lulc",
    "reflectance",
]

Array = np.ndarray

S2_BANDS = ("B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B8A", "B9", "B11", "B12")

# Surface reflectance x 10000 of pure materials, in the order of S2_BANDS.
_SPECTRA = {
    "leaf": (150, 230, 600, 260, 1050, 3500, 4500, 4750, 4900, 4950, 2200, 1050),
    "grass": (240, 340, 760, 520, 1280, 2900, 3500, 3650, 3850, 3850, 2500, 1350),
    "broadleaf": (130, 180, 430, 220, 800, 2600, 3350, 3550, 3700, 3700, 1700, 750),
    "needle": (110, 140, 280, 170, 470, 1350, 1700, 1800, 1900, 1900, 900, 390),
    "flower": (300, 420, 1650, 1750, 2100, 3200, 3850, 4150, 4300, 4300, 2300, 1150),
    "straw": (550, 850, 1260, 1590, 1900, 2350, 2650, 2850, 3100, 3150, 3800, 2800),
    "soil": (470, 710, 1010, 1280, 1560, 1800, 1950, 2100, 2250, 2300, 2950, 2550),
    "dark soil": (300, 400, 560, 740, 900, 1020, 1120, 1220, 1330, 1380, 1850, 1600),
    "sand": (900, 1150, 1500, 1850, 2080, 2220, 2350, 2500, 2600, 2650, 3300, 2900),
    "stone": (950, 1100, 1280, 1420, 1520, 1600, 1680, 1760, 1820, 1850, 2200, 2050),
    "asphalt": (620, 740, 840, 900, 960, 1030, 1090, 1160, 1210, 1230, 1380, 1290),
    "tile": (600, 720, 1000, 1550, 1800, 1950, 2080, 2200, 2300, 2320, 2750, 2400),
    "metal": (1900, 2250, 2480, 2550, 2600, 2650, 2700, 2750, 2800, 2780, 2700, 2450),
    "clear water": (300, 290, 270, 140, 110, 80, 75, 65, 55, 50, 25, 15),
    "silty water": (430, 520, 760, 640, 560, 290, 260, 230, 180, 150, 50, 35),
}
_MATERIALS = tuple(_SPECTRA)

# Day of the year: half green, half yellow, harvested.
_SEASON = {
    "wheat": (88, 178, 203),
    "barley": (82, 160, 185),
    "rapeseed": (72, 172, 196),
    "maize": (163, 256, 276),
    "beet": (150, 300, 304),
    "sunflower": (146, 232, 258),
}

# The same for every sensor and season: covers as shares of materials. Variants shift the shares below.
_STILL = {
    "river": {"silty water": 0.9, "clear water": 0.1},
    "lake": {"clear water": 0.9, "silty water": 0.1},
    "rock": {"stone": 0.8, "grass": 0.2},
    "sand": {"sand": 0.85, "grass": 0.15},
    "track": {"soil": 0.4, "sand": 0.15, "grass": 0.45},
    "road": {"asphalt": 0.85, "grass": 0.15},
    "works": {"metal": 0.65, "asphalt": 0.35},
}

LULC_CLASSES = {"water": 1, "trees": 2, "crops": 5, "built": 7, "bare": 8, "rangeland": 11}
_CLASS_OF = {
    "water": "river lake",
    "trees": "broadleaf conifer hedge",
    "crops": "wheat barley rapeseed maize beet sunflower fallow track",
    "built": "road roof garden works park",
    "bare": "rock sand",
    "rangeland": "meadow heath",
}

# How much a single pixel differs from its neighbours, as a share of its reflectance.
_ROUGH = {
    "river": 0.02, "lake": 0.015, "broadleaf": 0.13, "conifer": 0.16, "heath": 0.09, "rock": 0.12,
    "hedge": 0.14, "roof": 0.2, "garden": 0.14, "works": 0.12, "park": 0.1, "road": 0.07,
}  # fmt: skip
# Relative change of each band where plants are more vigorous: less red and short-wave, more near infrared.
VIGOUR = np.array([-0.6, -0.7, -0.5, -1, -0.5, 0.35, 0.5, 0.55, 0.5, 0.5, -0.35, -0.7], dtype=np.float32)

# Top of atmosphere = path + transmission x surface, reflectance x 10000.
TOA = np.array(
    [[1020, 720, 400, 230, 190, 150, 120, 90, 60, 20, 20, 10],
     [0.83, 0.87, 0.91, 0.94, 0.94, 0.94, 0.95, 0.95, 0.96, 0.35, 0.96, 0.95]], dtype=np.float32
)  # fmt: skip
CLOUD = np.array([6800, 6900, 6700, 6800, 6900, 7000, 7100, 7200, 7200, 7000, 4300, 3300], dtype=np.float32)

# Backscatter in dB of bare and of fully grown cover: (VV bare, VV grown, VH bare, VH grown).
_RADAR = {
    "river": (-19, -19, -26, -26), "lake": (-21, -21, -28, -28), "meadow": (-13, -11.5, -21, -18.5),
    "broadleaf": (-9.5, -8.5, -16, -13.5), "conifer": (-9, -9, -14.5, -14.5),
    "heath": (-11.5, -11, -18.5, -17.5), "hedge": (-10, -9, -16.5, -14.5),
    "rock": (-9.5, -9.5, -18, -18), "sand": (-15, -15, -24, -24),
    "track": (-13, -12, -21, -19), "road": (-15, -15, -23, -23), "roof": (-3.5, -3.5, -12, -12),
    "garden": (-8, -8, -15, -15), "works": (-1.5, -1.5, -11.5, -11.5), "park": (-11.5, -11, -18, -17),
    "wheat": (-10, -13.5, -18.5, -20), "barley": (-10, -13, -18.5, -19), "rapeseed": (-10, -9.5, -18, -13.5),
    "maize": (-10.5, -9.5, -19, -15), "beet": (-10.5, -8.5, -19, -14.5), "sunflower": (-10.5, -9, -19, -15),
    "fallow": (-11.5, -11, -20, -18.5),
}  # fmt: skip


def _logistic(days: Array, scale: float) -> Array:
    return 1 / (1 + np.exp(-np.clip(days / scale, -50, 50)))


def _leaves(day: int) -> float:
    """Share of deciduous leaves that are out."""
    return float(_logistic(np.array(day - 112.0), 7) * (1 - _logistic(np.array(day - 298.0), 8)))


def _shares(cover: str, day: int) -> dict[str, Array]:
    """Shares of the materials in the variants of one cover, each an array (VARIANTS,)."""
    spread = np.linspace(-1, 1, VARIANTS)
    luck = uniform(mix(31, COVER[cover], np.arange(VARIANTS)))
    if cover in _SEASON:
        up, ripe, cut = _SEASON[cover]
        days = day - 9 * spread
        winter = 0.3 if up < 100 else 0.02
        stubble = _logistic(days - cut, 2.5)
        ploughed = _logistic(days - cut - 45, 12)
        crop = (winter + (0.93 - winter) * _logistic(days - up, 9)) * (1 - _logistic(days - ripe, 6))
        green = crop + 0.7 * luck * _logistic(days - 278, 9) * (up < 100)  # sown again, or a catch crop
        flower = green * 0.75 * np.exp(-(((days - 122) / 12) ** 2)) if cover == "rapeseed" else 0 * green
        straw = (0.93 - green) * _logistic(days - ripe, 6) * (1 - 0.4 * stubble - 0.5 * ploughed)
        soil = 1 - green - straw
        return {
            "leaf": green - flower,
            "flower": flower,
            "straw": straw,
            "soil": soil * luck,
            "dark soil": soil * (1 - luck),
        }
    if cover in ("meadow", "park", "fallow"):
        green = (0.55 + 0.35 * _leaves(day)) * (
            0.35 + 0.3 * luck if cover == "fallow" else 0.85 + 0.15 * luck
        )
        mown = 0.35 * (luck > 0.7) * (cover == "meadow")
        dry = (1 - green) * 0.5 + mown * green
        green = green * (1 - mown)
        return {"grass": green, "straw": dry, "soil": 1 - green - dry}
    if cover in ("broadleaf", "hedge"):
        leaves = (0.82 + 0.1 * spread) * _leaves(day - 4)
        return {
            "broadleaf": leaves,
            "needle": 0.55 * (1 - leaves),
            "dark soil": 0.25 * (1 - leaves),
            "straw": 0.2 * (1 - leaves),
        }
    if cover == "conifer":
        return {"needle": 0.8 + 0.1 * spread, "broadleaf": 0.2 - 0.1 * spread}
    if cover == "heath":
        return {
            "grass": 0.5 + 0.1 * spread,
            "straw": 0.2 - 0.1 * luck,
            "soil": 0.3 + 0.1 * luck - 0.1 * spread,
        }
    if cover == "roof":
        red = 0.25 + 0.55 * luck
        return {
            "tile": red,
            "asphalt": 0.85 - red,
            "metal": 0.15 * (luck < 0.2),
            "broadleaf": 0.15 + 0 * luck,
        }
    if cover == "garden":
        return {
            "grass": 0.35 + 0.1 * spread,
            "broadleaf": 0.3 * _leaves(day) + 0 * luck,
            "tile": 0.15 * luck,
            "asphalt": 0.2 + 0 * luck,
        }
    if cover == "works":
        return {"metal": 0.25 + 0.65 * luck, "asphalt": 0.75 - 0.65 * luck}
    return {name: np.full(VARIANTS, share) for name, share in _STILL[cover].items()}


@lru_cache(maxsize=64)
def reflectance(day: int) -> Array:
    """Surface reflectance x 10000 of every cover code on a day of the year, shape (12, codes), float32."""
    table = np.zeros((len(COVER) * VARIANTS, len(_MATERIALS)))
    for cover, first in COVER.items():
        for material, share in _shares(cover, day).items():
            table[first : first + VARIANTS, _MATERIALS.index(material)] += share
    return (table @ np.array([_SPECTRA[m] for m in _MATERIALS])).T.astype(np.float32)


@lru_cache(maxsize=64)
def backscatter(day: int) -> Array:
    """Backscatter in dB of every cover code on a day of the year, (VV, VH), shape (2, codes), float32."""
    table = np.zeros((2, len(COVER) * VARIANTS), dtype=np.float32)
    for cover, first in COVER.items():
        shares = _shares(cover, day)
        grown = sum(
            share for name, share in shares.items() if name in ("leaf", "flower", "grass", "broadleaf")
        )
        luck = uniform(mix(32, COVER[cover], np.arange(VARIANTS))) - 0.5
        vv_bare, vv_grown, vh_bare, vh_grown = _RADAR[cover]
        table[0, first : first + VARIANTS] = vv_bare + (vv_grown - vv_bare) * grown + 1.6 * luck
        table[1, first : first + VARIANTS] = vh_bare + (vh_grown - vh_bare) * grown + 1.4 * luck
    return table


def _per_code(values: Mapping[str, float], otherwise: float) -> Array:
    return np.repeat([values.get(cover, otherwise) for cover in COVER], VARIANTS)


def lulc() -> Array:
    """The land-cover class of every cover code, shape (codes,), uint8."""
    classes = {cover: LULC_CLASSES[name] for name, covers in _CLASS_OF.items() for cover in covers.split()}
    return _per_code(classes, 0).astype(np.uint8)


ROUGHNESS = _per_code(_ROUGH, 0.045).astype(np.float32)
