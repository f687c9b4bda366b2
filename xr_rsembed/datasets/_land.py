"""The made land: relief, rivers, woods, fields, towns and roads, as cover codes and heights.

Every pixel depends on its place and the seed alone, through hashed lattices and smooth noise between their points, so a
window of the land is the same whatever window was computed before it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from xr_rsembed.datasets._looks import COVER, VARIANTS

Array = np.ndarray


# Every pixel is computed in the same square of the plane, whatever window asks for it: so the same float32 operations
# run on arrays of the same shape, and the numbers agree to the bit.
TILE = 256
MARGIN = 2  # for slopes, field edges and the sensor's blur; even, so that 20 m pixels stay whole
SIDE = TILE + 2 * MARGIN


class Corner(NamedTuple):
    """The first row and column of a square of SIDE pixels of the endless plane."""

    y: int
    x: int


def pixels(corner: Corner) -> tuple[Array, Array]:
    """Row numbers (SIDE, 1) and column numbers (SIDE,) of a square."""
    return np.arange(corner.y, corner.y + SIDE)[:, None], np.arange(corner.x, corner.x + SIDE)


def mix(seed: int, *parts: Array | int) -> Array:
    """Hash integers to uint32: every bit of the result depends on every bit of every part."""
    value: Array = np.atleast_1d(np.uint32(seed & 0xFFFFFFFF) ^ np.uint32(0x9E3779B9))
    for part in parts:
        whole = np.asarray(part)
        value = value ^ (whole if whole.dtype == np.uint32 else whole.astype(np.int64).astype(np.uint32))
        value = value ^ (value >> np.uint32(16))
        value = value * np.uint32(0x7FEB352D)
        value ^= value >> np.uint32(15)
        value *= np.uint32(0x846CA68B)
        value ^= value >> np.uint32(16)
    return value


def uniform(hashed: Array) -> Array:
    """Hashes as float32 in [0, 1)."""
    return (hashed >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


@lru_cache(maxsize=512)
def _spline_weights(start: int, step: int) -> Array:
    """Cubic B-spline weights of the lattice points for SIDE pixels from ``start`` on, shape (SIDE, points)."""
    first, t = np.divmod((np.arange(SIDE) + start + 0.5) / step, 1)
    weights = (
        np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    )
    matrix = np.zeros((SIDE, int(first[-1]) + 4), dtype=np.float32)
    np.put_along_axis(matrix, first.astype(int)[:, None] + np.arange(4), weights.astype(np.float32), axis=1)
    return matrix


def noise(seed: int, corner: Corner, *scales: tuple[int, float]) -> Array:
    """A sum of smooth noises of zero mean, each over a number of pixels with a spread, (SIDE, SIDE), float32."""
    total = np.zeros((SIDE, SIDE), dtype=np.float32)
    for step, spread in scales:
        down, across = _spline_weights(corner.y % step, step), _spline_weights(corner.x % step, step)
        rows, columns = (
            np.arange(down.shape[1]) + corner.y // step,
            np.arange(across.shape[1]) + corner.x // step,
        )
        points = uniform(mix(seed, step, rows[:, None], columns)) * np.float32(7.2) - np.float32(3.6)
        total += np.float32(spread) * (down @ points @ across.T)
    return total


class Land(NamedTuple):
    """What lies in a square: cover codes (uint8) and height in metres (float32), each of shape (SIDE, SIDE)."""

    code: Array
    height: Array


@lru_cache(maxsize=32)
def land(seed: int, corner: Corner) -> Land:
    """The land of one square."""
    river = noise(seed + 2, corner, (1100, 1), (300, 0.26), (110, 0.085), (60, 0.03))
    brook = noise(seed + 3, corner, (420, 1), (150, 0.32), (60, 0.12))
    valley = river * river / (river * river + np.float32(0.12))  # 0 at the river, 1 far from it
    hills = np.clip(noise(seed + 1, corner, (1500, 0.7)) - np.float32(0.1), 0, 1.6)
    plain = np.float32(140) + noise(seed + 4, corner, (3000, 25))
    crease = np.minimum(np.abs(brook), 1.5) + noise(seed + 4, corner, (48, 0.13), (20, 0.06), (9, 0.02))
    swell = noise(seed + 4, corner, (260, 10), (70, 4))
    height = plain + valley * (30 + swell + 18 * crease + hills * (160 + 270 * crease))

    # Bent a little, so that no border is ruler-straight for long.
    rows, columns = pixels(corner)
    y = (rows + np.float32(0.5) + noise(seed + 5, corner, (110, 7))).astype(np.float32)
    x = (columns + np.float32(0.5) + noise(seed + 6, corner, (110, 7))).astype(np.float32)
    fields = _fields(seed, y, x)
    code = fields.code
    code[(_distance(brook) < 1.6) & (valley < 0.97)] = COVER["broadleaf"] + 4
    _woods(seed, corner, fields, hills * valley)
    _towns(seed, corner, fields, y, x)
    code[_distance(noise(seed + 15, corner, (700, 1), (160, 0.08))) < 0.8] = COVER["road"]
    _water(seed, corner, code, river)
    return Land(code, height)


def _distance(field: Array) -> Array:
    """About how far the zero line of a smooth field is, in pixels."""
    # Where the field is flat the zero line is far or the river is a lake; the floor keeps both finite.
    down, across = np.gradient(field)
    return np.abs(field) / (np.sqrt(down * down + across * across) + np.float32(4e-4))


def _sites(seed: int, spacing: int, y: Array, x: Array) -> tuple[Array, Array, Array, Array]:
    """One jittered site in each square of a lattice around these positions: hash, y, x, and distance to the nearest."""
    rows, columns = (np.arange(a.min() // spacing - 1, a.max() // spacing + 2).astype(int) for a in (y, x))
    row, column = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    key = mix(seed, spacing, row, column)
    site_y, site_x = (
        ((lattice + 0.15 + 0.7 * uniform(mix(k, key))) * spacing).astype(np.float32)
        for k, lattice in ((1, row), (2, column))
    )
    down, across = site_y - np.clip(site_y, y.min(), y.max()), site_x - np.clip(site_x, x.min(), x.max())
    return key, site_y, site_x, np.hypot(down, across)


class _Fields(NamedTuple):
    """Cover codes, a hash a field, distance to the next district and angle of the own one, all (SIDE, SIDE)."""

    code: Array
    parcel: Array
    border: Array
    angle: Array


# Crops of 64 fields in two kinds of district: arable plains, and country of meadows.
_CROPS = np.array(
    [COVER[name] for name in ("wheat", "rape", "maize", "beet", "fallow", "meadow")], dtype=np.uint8
)
_SHARES = ((24, 9, 14, 6, 5, 6), (6, 2, 9, 1, 2, 44))
_CROP_OF = np.stack([np.repeat(_CROPS, shares) for shares in _SHARES])


def _fields(seed: int, y: Array, x: Array) -> _Fields:
    """Districts around jittered sites, cut into strips along a direction of their own, and strips into fields."""
    nearest, second = np.full(y.shape, np.inf, np.float32), np.full(y.shape, np.inf, np.float32)
    district = np.zeros(y.shape, np.uint32)
    for key, site_y, site_x, gap in zip(*_sites(seed + 7, 176, y, x), strict=True):
        if gap > 180:
            continue
        away = (y - site_y) ** 2 + (x - site_x) ** 2
        np.minimum(second, np.maximum(nearest, away), out=second)
        district[away < nearest] = key
        np.minimum(nearest, away, out=nearest)
    border = np.sqrt(second) - np.sqrt(nearest)
    angle, width, length, country = (uniform(mix(k, district)) for k in (3, 4, 5, 6))
    angle *= np.float32(np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    strip = mix(seed + 8, district, np.floor((cos * y + sin * x) / (9 + 16 * width)))
    parcel = mix(10, strip, np.floor((cos * x - sin * y) / (22 + 50 * length) + uniform(strip)))
    code = _CROP_OF[(country < 0.35).astype(np.intp), parcel & np.uint32(63)]
    code += ((parcel >> np.uint32(6)) & np.uint32(VARIANTS - 1)).astype(np.uint8)
    edge = np.zeros(code.shape, bool)
    edge[:, 1:] |= parcel[:, 1:] != parcel[:, :-1]
    edge[1:] |= parcel[1:] != parcel[:-1]
    code[(edge & ((parcel >> np.uint32(10)) % 3 == 0)) | (border < 2)] = COVER["track"]
    return _Fields(code, parcel, border, angle)


def _woods(seed: int, corner: Corner, fields: _Fields, rough: Array) -> None:
    """Forest where it is steep, in patches elsewhere, and a few woods the shape of a field; above it heath and rock."""
    code, parcel = fields.code, fields.parcel
    inclination = noise(seed + 11, corner, (340, 0.75), (120, 0.5), (36, 0.22), (11, 0.1)) + 2.4 * rough
    wood = (inclination > 1.15) | ((parcel >> np.uint32(16)) % 29 == 0) & (inclination > -0.4)
    wood &= (fields.border > 1) | (parcel & np.uint32(1) == 0)  # ways through the forest
    stand = (parcel & np.uint32(VARIANTS - 1)).astype(np.uint8)
    needles = noise(seed + 12, corner, (90, 1), (20, 0.5)) + 0.9 * rough > 0.55
    kind = np.where(needles, np.uint8(COVER["conifer"]), np.uint8(COVER["broadleaf"]))
    np.copyto(code, kind + stand, where=wood)
    heath = rough > 1.25 + noise(seed + 13, corner, (18, 0.12))
    code[heath] = COVER["heath"] + stand[heath]
    code[rough > 1.45 + noise(seed + 14, corner, (9, 0.1))] = COVER["rock"]


def _towns(seed: int, corner: Corner, fields: _Fields, y: Array, x: Array) -> None:
    """Villages and a few towns: a bent grid of streets, with houses, gardens, greens and works between."""
    key, site_y, site_x, gap = _sites(seed + 15, 320, y, x)
    size, kind = uniform(mix(20, key)), key % 9
    radius = np.where(kind == 0, 45 + 90 * size * size, np.where(kind < 7, 8 + 20 * size, 0))
    ragged = np.exp(noise(seed + 16, corner, (52, 0.3), (17, 0.2), (6, 0.1)))
    depth = np.full(y.shape, -1, np.float32)  # 1 in the middle of a town, 0 at its edge
    for i in np.flatnonzero((radius > 0) & (gap < 2.5 * radius)):
        away = np.sqrt((y - site_y[i]) ** 2 + (x - site_x[i]) ** 2)
        np.maximum(depth, 1 - away / (np.float32(radius[i]) * ragged), out=depth)
    if not (depth > 0).any():
        return
    cos, sin = np.cos(fields.angle), np.sin(fields.angle)
    across, along = (cos * y + sin * x) / np.float32(7), (cos * x - sin * y) / np.float32(12)
    block = mix(seed + 17, np.floor(across), np.floor(along))
    house = mix(18, block, np.floor(across * 4), np.floor(along * 6))
    code = np.where(uniform(house) < 0.35 + 0.5 * depth, np.uint8(COVER["roof"]), np.uint8(COVER["garden"]))
    kind = uniform(block)
    code[(kind > 0.9) & (depth < 0.45)] = COVER["works"]
    code[kind < 0.07] = COVER["meadow"]
    code += ((house >> np.uint32(3)) & np.uint32(VARIANTS - 1)).astype(np.uint8)
    code[(across % 1 < 1 / 7) | (along % 1 < 1 / 12)] = COVER["road"]
    np.copyto(fields.code, code, where=depth > 0)


def _water(seed: int, corner: Corner, code: Array, river: Array) -> None:
    """The river with trees on its banks, and lakes in the hollows."""
    bank = _distance(river) - np.maximum(2.9 + noise(seed + 18, corner, (240, 1.2)), 1.5)
    lake = noise(seed + 19, corner, (230, 1), (60, 0.15)) - np.float32(2.35)
    patchy = noise(seed + 20, corner, (34, 0.8), (9, 0.5))
    code[((bank < 1.8 + patchy) & (bank > 0) & (patchy > -0.3)) | (np.abs(lake) < 0.05)] = (
        COVER["broadleaf"] + 3
    )
    code[lake > 0] = COVER["lake"]
    code[(bank <= 0) & (code // VARIANTS != COVER["road"] // VARIANTS)] = COVER["river"]  # roads have bridges
