"""Pixels of one window as a sensor sees the land: the work of one tile, numpy in and out."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from xr_rsembed.datasets._land import Land, land
from xr_rsembed.datasets._looks import (
    CLOUD,
    ROUGHNESS,
    S2_BANDS,
    TOA,
    VIGOUR,
    backscatter,
    lulc,
    reflectance,
)
from xr_rsembed.datasets._noise import Window, fractal, mix, uniform

__all__ = ["TILE", "dem", "land_cover", "sentinel1", "sentinel2"]

Array = np.ndarray

# Every pixel is computed in the same square of the plane, whatever window asks for it: so the same float32
# operations run on arrays of the same shape, and the numbers agree to the bit.
TILE = 256
_MARGIN = 2  # for slopes, parcel edges and the sensor's blur; even, so that 20 m pixels stay whole
_FINE = {"B2", "B3", "B4", "B8"}
_SUN = np.array([0.42, -0.55, 0.72], dtype=np.float32)  # from the south-east: to the east, to the south, up


@lru_cache(maxsize=4)
def _land(seed: int, window: Window) -> Land:
    return land(seed, window)


def _around(row: int, column: int) -> Window:
    return Window(row * TILE - _MARGIN, column * TILE - _MARGIN, TILE + 2 * _MARGIN)


def _core(a: Array) -> Array:
    return a[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def dem(seed: int, row: int, column: int) -> Array:
    """Height in metres, shape (1, TILE, TILE), float32."""
    return _core(_land(seed, _around(row, column)).height)[None]


def land_cover(seed: int, row: int, column: int) -> Array:
    """Land-cover classes, shape (1, TILE, TILE), uint8."""
    return lulc()[_core(_land(seed, _around(row, column)).code)][None]


def sentinel2(seed: int, row: int, column: int, *, day: int, look: int, level: str, clouds: float) -> Array:
    """Sentinel-2 DN, shape (12 or 13, TILE, TILE), uint16.

    ``day`` is the day of the year, ``look`` tells acquisitions apart (clouds, noise), ``level`` is "L2A" or
    "L1C", and ``clouds`` is the share of the sky that they cover.
    """
    window = _around(row, column)
    ground = _land(seed, window)
    code = ground.code.astype(np.intp)
    light, vigour = _light(seed, window, ground, code)
    grain = mix(seed + 40, look, np.arange(window.n)[:, None] + window.y0, np.arange(window.n) + window.x0)
    cover, shade = _sky(seed, window, look, clouds) if clouds > 0 else (None, None)
    if shade is not None:
        light *= 1 - np.float32(0.62) * shade
    palette = reflectance(day)

    bands = []
    for number, name in enumerate(S2_BANDS):
        seen = palette[number].take(code)
        seen *= light + VIGOUR[number] * vigour
        if level == "L1C":
            seen = TOA[0, number] + TOA[1, number] * seen
        if cover is not None:
            seen += cover * (CLOUD[number] - seen)
        bands.append(_sampled(seen, name, (grain >> np.uint32(2 * number)) & np.uint32(63)))
    if level == "L1C":  # B10 sees water vapour and high cloud, never the ground
        high = np.full((window.n, window.n), 12, np.float32) if cover is None else 12 + 900 * cover
        bands.insert(10, _sampled(high, "B10", grain & np.uint32(7)))
    return np.stack(bands)


def _sampled(seen: Array, band: str, noise: Array) -> Array:
    """Blur to the sensor's sharpness, sample at 10, 20 or (for 60 m) 40 m, and add the sensor's noise."""
    if band in _FINE:
        rows = seen[1:-1] * np.float32(0.6) + (seen[:-2] + seen[2:]) * np.float32(0.2)
        sharp = rows[:, 1:-1] * np.float32(0.6) + (rows[:, :-2] + rows[:, 2:]) * np.float32(0.2)
        out = sharp[1:-1, 1:-1] + _core(noise).astype(np.float32) * np.float32(0.35)
        return np.maximum(out, 1).astype(np.uint16)
    times = 4 if band in ("B1", "B9", "B10") else 2
    rows = np.add.reduce([_core(seen)[k::times] for k in range(times)])
    coarse = np.add.reduce([rows[:, k::times] for k in range(times)]) / np.float32(times**2)
    coarse += _core(noise)[::times, ::times].astype(np.float32) * np.float32(0.35)
    return np.maximum(coarse, 1).astype(np.uint16).repeat(times, axis=0).repeat(times, axis=1)


def _light(seed: int, window: Window, ground: Land, code: Array) -> tuple[Array, Array]:
    """Relative brightness of the pixels (sun on slopes, grain of the cover), and how vigorous plants are."""
    down, across = np.gradient(ground.height / np.float32(10))
    lit = (_SUN[2] - across * _SUN[0] - down * _SUN[1]) / np.sqrt(1 + across * across + down * down)
    light = np.clip(lit / _SUN[2], 0.3, 1.6)
    grain = uniform(mix(seed + 41, np.arange(window.n)[:, None] + window.y0, np.arange(window.n) + window.x0))
    light *= 1 + ROUGHNESS.take(code) * (2 * grain - 1)
    light *= 1 + fractal(seed + 42, window, (70, 5), (0.05, 0.025))
    return light, fractal(seed + 43, window, (48, 16, 5), (0.09, 0.06, 0.025))


def _opacity(seed: int, window: Window, look: int, clouds: float) -> Array:
    """How much of the light a cloud takes, 0 to 0.97, shape (n, n)."""
    thickness = fractal(
        int(mix(seed + 44, look)[0]), window, (520, 170, 60, 22, 8), (0.75, 0.5, 0.35, 0.2, 0.08)
    )
    # The noise is close to normal with this spread, so its quantile sets the covered share.
    threshold = _normal_quantile(1 - clouds) * 1.02
    return np.clip((thickness - np.float32(threshold)) * np.float32(1.7), 0, 0.97)


def _sky(seed: int, window: Window, look: int, clouds: float) -> tuple[Array, Array]:
    """Opacity of the clouds above the pixels, and of the clouds between the pixels and the sun."""
    toward_sun = Window(window.y0 + 34, window.x0 + 26, window.n)
    return _opacity(seed, window, look, clouds), _opacity(seed, toward_sun, look, clouds)


def _normal_quantile(share: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(min(max(share, 1e-4), 1 - 1e-4))


def sentinel1(seed: int, row: int, column: int, *, day: int, look: int, flattened: bool, units: str) -> Array:
    """Sentinel-1 backscatter, (VV, VH), shape (2, TILE, TILE), float32, in "dB" or "linear" power.

    ``flattened`` leaves out the slopes' own brightness, as radiometric terrain correction does.
    """
    window = _around(row, column)
    ground = _land(seed, window)
    level = backscatter(day)
    swing = fractal(seed + 50, window, (60, 9), (0.45, 0.35))
    if not flattened:
        slope = np.gradient(ground.height / np.float32(10), axis=1)
        swing += np.clip(8 * slope, -3.5, 5)
    bright = _core(swing)
    code = _core(ground.code).astype(np.intp)
    power = np.stack([level[k].take(code) + bright for k in range(2)])
    power += np.stack([10 * np.log10(_speckle(seed + 51 + k, window, look)) for k in range(2)])
    # Corners of houses send much more back, but not each one.
    glint = _core(
        uniform(mix(seed + 53, np.arange(window.n)[:, None] + window.y0, np.arange(window.n) + window.x0))
    )
    power += np.where((level[0].take(code) > -4) & (glint > 0.9), np.float32(9), np.float32(0))
    if units == "linear":
        power = 10 ** (power / np.float32(10))
    return power.astype(np.float32)


def _speckle(seed: int, window: Window, look: int) -> Array:
    """Multiplicative noise of mean 1, as of a multi-looked and resampled product, shape (TILE, TILE)."""
    y, x = np.arange(window.n)[:, None] + window.y0, np.arange(window.n) + window.x0
    high, low = mix(seed, look, y, x), mix(seed, look + 7919, y, x)
    # The product of uniforms gives the sum of exponentials, which is what adding looks does.
    tiny = np.float32(1e-7)
    looks = -np.log(uniform(high) + tiny) - np.log(uniform(low) + tiny)
    # Neighbouring pixels share part of their looks.
    shared = looks[1:, 1:] + looks[1:, :-1] + looks[:-1, 1:] + looks[:-1, :-1]
    return shared[1:-2, 1:-2] * np.float32(1 / 8)
