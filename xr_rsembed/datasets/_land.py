"""The made land itself: relief, rivers, woods, fields, towns and roads, as cover codes and heights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from xr_rsembed.datasets._noise import Window, fractal, mix, smooth_noise, uniform

__all__ = ["COVER", "VARIANTS", "Land", "land"]

Array = np.ndarray

VARIANTS = 8  # looks of one cover: sowing date, vigour, roof, stand age
# fmt: off
_NAMES = (
    "river", "lake", "wheat", "barley", "rapeseed", "maize", "beet", "sunflower", "meadow", "fallow",
    "broadleaf", "conifer", "heath", "rock", "sand", "hedge",
    "track", "road", "roof", "garden", "works", "park",
)
# fmt: on
COVER = {name: number * VARIANTS for number, name in enumerate(_NAMES)}  # cover name -> its first code

_CROPS = np.array([COVER[n] for n in _NAMES[2:10]], dtype=np.uint8)
# Shares of the crops in two kinds of district: arable plains, and country of meadows and hedges.
_ARABLE = np.searchsorted(np.cumsum([0.27, 0.11, 0.12, 0.2, 0.1, 0.07, 0.09]), (np.arange(64) + 0.5) / 64)
_MEADOWS = np.searchsorted(np.cumsum([0.09, 0.04, 0.03, 0.12, 0.01, 0.02, 0.65]), (np.arange(64) + 0.5) / 64)
_CROP_OF = np.stack([_CROPS[_ARABLE], _CROPS[_MEADOWS]])

_DISTRICT = 176  # px between the middles of two districts: about 1.8 km
_TOWN = 640


@dataclass(frozen=True)
class Land:
    """What lies in a window: cover codes (uint8) and height in metres (float32), each of shape (n, n)."""

    code: Array
    height: Array


def land(seed: int, window: Window) -> Land:
    """The land of one window."""
    river = fractal(seed + 2, window, (1100, 300, 110, 60), (1.0, 0.26, 0.085, 0.03))
    stream = fractal(seed + 3, window, (420, 150, 60), (1.0, 0.32, 0.12))
    valley = river * river / (river * river + np.float32(0.12))
    hills = np.clip(smooth_noise(seed + 1, window, 1500) * np.float32(0.7) - np.float32(0.1), 0, 1.6)
    height = _height(seed, window, valley, hills, stream)

    y, x = _bent(seed, window)
    district, border = _districts(seed, window, y, x)
    parcel = _parcels(seed, district, y, x)
    code = _fields(parcel, district)
    code[border < 1.1] = COVER["track"]
    _streams(seed, window, code, stream, valley)
    _woods(seed, window, code, parcel, hills * valley, forest_track=border < 0.6)
    _towns(seed, window, code, district, y, x)
    _highways(seed, window, code, y, x)
    _water(seed, window, code, river)
    return Land(code, height)


def _distance(field: Array) -> Array:
    """About how far the zero line of a smooth field is, in pixels."""
    down, across = np.gradient(field)
    # Where the field is flat the zero line is far or the river is a lake; the floor keeps both finite.
    return np.abs(field) / (np.sqrt(down * down + across * across) + np.float32(4e-4))


def _height(seed: int, window: Window, valley: Array, hills: Array, stream: Array) -> Array:
    """Metres: plains, hills away from the rivers, and a crease along every stream."""
    plain = np.float32(140) + 25 * smooth_noise(seed + 4, window, 3000)
    swell = fractal(seed + 4, window, (260, 70), (10, 4))
    crease = np.minimum(np.abs(stream), 1.5) + fractal(seed + 4, window, (48, 20, 9), (0.13, 0.06, 0.02))
    return plain + valley * (np.float32(30) + swell + 18 * crease + hills * (np.float32(160) + 270 * crease))


def _bent(seed: int, window: Window) -> tuple[Array, Array]:
    """Pixel positions, bent a little, so that no border is ruler-straight for long."""
    return (
        window.y + 7 * smooth_noise(seed + 5, window, 110),
        window.x + 7 * smooth_noise(seed + 6, window, 110),
    )


@dataclass(frozen=True)
class _Districts:
    """Which district a pixel belongs to (an index, (n, n)), and what each district is like."""

    index: Array
    key: Array
    angle: Array
    width: Array
    length: Array
    meadows: Array
    hedges: Array


def _sites(seed: int, window: Window, spacing: int, reach: int) -> tuple[Array, Array, Array]:
    """Jittered sites of a lattice around a window: hashes, y and x."""
    rows = np.arange((window.y0 - reach) // spacing, (window.y0 + window.n + reach) // spacing + 1)
    columns = np.arange((window.x0 - reach) // spacing, (window.x0 + window.n + reach) // spacing + 1)
    row, column = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    key = mix(seed, spacing, row, column)
    y = (row + 0.15 + 0.7 * uniform(mix(1, key))) * spacing
    x = (column + 0.15 + 0.7 * uniform(mix(2, key))) * spacing
    return key, y.astype(np.float32), x.astype(np.float32)


def _districts(seed: int, window: Window, y: Array, x: Array) -> tuple[_Districts, Array]:
    """The nearest site of every pixel, and the distance to the border with the next district in pixels."""
    key, site_y, site_x = _sites(seed + 7, window, _DISTRICT, reach=2 * _DISTRICT)
    middle, half = np.array([window.y0, window.x0]) + window.n / 2, window.n * 0.7072 + 30
    away = np.hypot(site_y - middle[0], site_x - middle[1])
    near = away < away.min() + 2 * half
    key, site_y, site_x = key[near], site_y[near], site_x[near]

    # |p - s|^2 - |p|^2 is linear in p: two products a site. Counted from the middle, float32 is exact enough.
    y, x = y - np.float32(middle[0]), x - np.float32(middle[1])
    site_y, site_x = site_y - np.float32(middle[0]), site_x - np.float32(middle[1])
    first, second = np.full(y.shape, np.inf, np.float32), np.full(y.shape, np.inf, np.float32)
    index = np.zeros(y.shape, np.intp)
    for i in range(len(key)):
        score = (site_y[i] ** 2 + site_x[i] ** 2) - 2 * site_y[i] * y
        score -= 2 * site_x[i] * x
        np.minimum(second, np.maximum(first, score), out=second)
        index[score < first] = i
        np.minimum(first, score, out=first)
    border = (second - first) / np.float32(1.6 * _DISTRICT)
    shape = [uniform(mix(k, key)) for k in range(3, 8)]
    districts = _Districts(
        index,
        key,
        angle=shape[0] * np.float32(np.pi),
        width=9 + 13 * shape[1],
        length=22 + 50 * shape[2],
        meadows=(shape[3] < 0.35).astype(np.intp),
        hedges=shape[4] < 0.3,
    )
    return districts, border


@dataclass(frozen=True)
class _Parcels:
    """One hash a parcel, and whether a pixel is on a parcel's edge, both of shape (n, n)."""

    key: Array
    edge: Array


def _parcels(seed: int, district: _Districts, y: Array, x: Array) -> _Parcels:
    """Cut every district into strips along its own direction, and every strip into fields."""
    at = district.index
    cos, sin = np.cos(district.angle)[at], np.sin(district.angle)[at]
    strip = np.floor((cos * y + sin * x) / district.width[at]).astype(np.int32)
    pair = mix(seed + 8, district.key[at], strip >> 1)
    # One pair of strips in three is one broad strip.
    strip = np.where((pair & np.uint32(3)) == 0, strip >> 1, strip + np.int32(1 << 20))
    row = mix(9, pair, strip)
    along = (cos * x - sin * y) / district.length[at] + uniform(row)
    key = mix(10, row, np.floor(along).astype(np.int32))
    edge = np.zeros(key.shape, bool)
    edge[:, 1:] |= key[:, 1:] != key[:, :-1]
    edge[1:] |= key[1:] != key[:-1]
    return _Parcels(key, edge)


def _fields(parcel: _Parcels, district: _Districts) -> Array:
    crop = _CROP_OF[district.meadows[district.index], parcel.key & np.uint32(63)]
    code = crop + ((parcel.key >> np.uint32(6)) & np.uint32(VARIANTS - 1)).astype(np.uint8)
    hedged = parcel.edge & district.hedges[district.index]
    code[hedged] = COVER["hedge"]
    code[parcel.edge & ~hedged & ((parcel.key >> np.uint32(10)) % 3 == 0)] = COVER["track"]
    return code


def _streams(seed: int, window: Window, code: Array, stream: Array, valley: Array) -> None:
    """Brooks under trees, with wet meadows beside them."""
    distance = _distance(stream) + 0.9 * smooth_noise(seed + 21, window, 13)
    beside = (distance < 4.5) & (valley < 0.9)
    code[beside] = COVER["meadow"] + 2
    code[(distance < 1.3) & (smooth_noise(seed + 21, window, 40) > -0.9)] = COVER["hedge"] + 4


def _woods(
    seed: int, window: Window, code: Array, parcel: _Parcels, rough: Array, forest_track: Array
) -> None:
    """Forest where it is steep, in patches elsewhere, and a few woods the shape of a field."""
    inclination = fractal(seed + 11, window, (340, 120, 36, 11), (0.75, 0.5, 0.22, 0.1)) + 2.4 * rough
    stand = (uniform(parcel.key) * VARIANTS).astype(np.uint8)
    small = (parcel.key >> np.uint32(16)) % 29 == 0
    wood = (inclination > 1.15) | (small & (inclination > -0.4))
    wood &= ~(forest_track & (parcel.key & np.uint32(1)).astype(bool))
    needles = (
        smooth_noise(seed + 12, window, 90) + 0.5 * smooth_noise(seed + 12, window, 20) + 0.9 * rough > 0.55
    )
    np.copyto(
        code, np.where(needles, COVER["conifer"], COVER["broadleaf"]).astype(np.uint8) + stand, where=wood
    )
    heath = rough > 1.25 + 0.12 * smooth_noise(seed + 13, window, 18)
    np.copyto(code, COVER["heath"] + stand, where=heath, casting="unsafe")
    code[rough > 1.45 + 0.1 * smooth_noise(seed + 14, window, 9)] = COVER["rock"]


def _town_radius(key: Array) -> Array:
    """Radius in pixels: nothing, a village, or one in nine a town."""
    size, kind = uniform(mix(20, key)), key % 9
    return np.where(kind == 0, 45 + 90 * size * size, np.where(kind < 7, 8 + 20 * size, 0)).astype(np.float32)


def _towns(seed: int, window: Window, code: Array, district: _Districts, y: Array, x: Array) -> None:
    key, site_y, site_x = _sites(seed + 15, window, _TOWN // 2, reach=360)
    radius = _town_radius(key)
    gap_y = np.maximum(np.maximum(window.y0 - site_y, site_y - window.y0 - window.n), 0)
    gap_x = np.maximum(np.maximum(window.x0 - site_x, site_x - window.x0 - window.n), 0)
    near = (radius > 0) & (np.hypot(gap_y, gap_x) < 2.2 * radius + 30)
    if not near.any():
        return
    ragged = np.exp(fractal(seed + 16, window, (52, 17, 6), (0.3, 0.2, 0.1)))
    depth = np.full(code.shape, -np.inf, np.float32)  # 1 in the middle of a town, 0 at its edge
    for middle_y, middle_x, size in zip(site_y[near], site_x[near], radius[near], strict=True):
        np.maximum(depth, 1 - np.hypot(y - middle_y, x - middle_x) / (size * ragged), out=depth)
    inside = np.nonzero(depth > 0)
    if inside[0].size:
        code[inside] = _streets(seed, district, inside, y[inside], x[inside], depth[inside])


def _streets(seed: int, district: _Districts, inside: tuple, y: Array, x: Array, depth: Array) -> Array:
    """Cover codes of a town: a bent grid of streets, with houses, gardens, parks and works between."""
    angle = district.angle[district.index[inside]]
    across = (np.cos(angle) * y + np.sin(angle) * x) / np.float32(7)
    along = (np.cos(angle) * x - np.sin(angle) * y) / np.float32(12)
    block = mix(seed + 17, np.floor(across).astype(np.int32), np.floor(along).astype(np.int32))
    house = mix(18, block, np.floor(across * 4).astype(np.int32), np.floor(along * 6).astype(np.int32))
    code = np.where(uniform(house) < 0.35 + 0.5 * depth, COVER["roof"], COVER["garden"]).astype(np.uint8)
    code += ((house >> np.uint32(3)) & np.uint32(VARIANTS - 1)).astype(np.uint8)
    kind = uniform(block)
    code[kind < 0.07] = COVER["park"]
    works = (kind > 0.9) & (depth < 0.45)
    code[works] = COVER["works"] + (block[works] & np.uint32(VARIANTS - 1)).astype(np.uint8)
    street = (across % 1 < 1 / 7) | (along % 1 < 1 / 12)
    code[street] = COVER["road"]
    return code


def _highways(seed: int, window: Window, code: Array, y: Array, x: Array) -> None:
    """Roads from every fourth town site to its right and lower neighbour."""
    rows = range((window.y0 - 40) // _TOWN - 1, (window.y0 + window.n + 40) // _TOWN + 2)
    columns = range((window.x0 - 40) // _TOWN - 1, (window.x0 + window.n + 40) // _TOWN + 2)
    for row, column in product(rows, columns):
        start = _junction(seed, row, column)
        for end in (_junction(seed, row + 1, column), _junction(seed, row, column + 1)):
            low, high = np.minimum(start, end) - 30, np.maximum(start, end) + 30
            if (high < (window.y0, window.x0)).any() or (
                low > (window.y0 + window.n, window.x0 + window.n)
            ).any():
                continue
            step = end - start
            y_off, x_off = y - np.float32(start[0]), x - np.float32(start[1])
            t = (y_off * np.float32(step[0]) + x_off * np.float32(step[1])) / np.float32(step @ step)
            np.clip(t, 0, 1, out=t)
            y_off -= t * np.float32(step[0])
            x_off -= t * np.float32(step[1])
            code[y_off * y_off + x_off * x_off < 1.2] = COVER["road"]


@lru_cache(maxsize=4096)
def _junction(seed: int, row: int, column: int) -> Array:
    """Where highways meet: the town site at this place of the coarser lattice, (y, x)."""
    key = mix(seed + 15, _TOWN // 2, 2 * row, 2 * column)
    jitter = np.concatenate([uniform(mix(1, key)), uniform(mix(2, key))]).astype(np.float64)
    return (np.array([2 * row, 2 * column]) + 0.15 + 0.7 * jitter) * (_TOWN // 2)


def _water(seed: int, window: Window, code: Array, river: Array) -> None:
    """The river with its trees and sand banks, and lakes in the hollows."""
    width = np.maximum(2.9 + 1.2 * smooth_noise(seed + 18, window, 240), 1.5)
    bank = _distance(river) - width
    road = (code >= COVER["road"]) & (code < COVER["roof"])  # bridges
    lake = fractal(seed + 19, window, (230, 60), (1.0, 0.15)) - np.float32(2.35)
    patchy = fractal(seed + 20, window, (34, 9), (0.8, 0.5))
    code[(bank < 1.8 + patchy) & (bank > 0) & (patchy > -0.3)] = COVER["hedge"] + 3
    code[(bank < 1.0) & (bank > 0) & (patchy < -1.25)] = COVER["sand"]
    code[(lake > -0.05) & (lake <= 0)] = COVER["hedge"]
    code[lake > 0] = COVER["lake"]
    code[(bank <= 0) & ~road] = COVER["river"]
