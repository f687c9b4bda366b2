"""Pixels of one tile as a sensor sees the land, numpy in and out."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from xr_rsembed.bands import BANDS
from xr_rsembed.datasets import _looks
from xr_rsembed.datasets._land import MARGIN, TILE, Corner, land, mix, noise, pixels, uniform

Array = np.ndarray

_FINE = {"B2", "B3", "B4", "B8"}
_SUN = np.array([0.42, -0.55, 0.72], dtype=np.float32)  # from the south-east: to the east, to the south, up


def render(
    modality: str, seed: int, row: int, column: int, *, day: int, look: int, clouds: float, units: str
) -> Array:
    """One tile of a modality, shape (bands, TILE, TILE).

    ``day`` is the day of the year, ``look`` tells acquisitions apart (clouds, noise).
    """
    corner = Corner(row * TILE - MARGIN, column * TILE - MARGIN)
    if modality == "DEM":
        return _core(land(seed, corner).height)[None]
    if modality == "LULC":
        return _looks.lulc[_core(land(seed, corner).code)][None]
    if modality.startswith("S2"):
        return _sentinel2(seed, corner, day, look, modality == "S2L1C", clouds)
    return _sentinel1(seed, corner, day, look, modality == "S1RTC", units)


def _core(a: Array) -> Array:
    return a[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def _sentinel2(seed: int, corner: Corner, day: int, look: int, above: bool, clouds: float) -> Array:
    """Sentinel-2 DN, uint16, at the surface or ``above`` the atmosphere, under a share of clouds."""
    ground, (rows, columns) = land(seed, corner), pixels(corner)
    code = ground.code.astype(np.intp)
    down, across = np.gradient(ground.height / np.float32(10))
    lit = (_SUN[2] - across * _SUN[0] - down * _SUN[1]) / np.sqrt(1 + across * across + down * down)
    light = np.clip(lit / _SUN[2], 0.3, 1.6) * (1 + noise(seed + 42, corner, (70, 0.05), (5, 0.025)))
    light *= 1 + _looks.ROUGHNESS.take(code) * (2 * uniform(mix(seed + 41, rows, columns)) - 1)
    vigour = noise(seed + 43, corner, (48, 0.09), (16, 0.06), (5, 0.025))
    grain = mix(seed + 40, look, rows, columns)
    cover: Array | np.float32 = np.float32(0)
    if clouds > 0:
        toward_sun = Corner(corner.y + 34, corner.x + 26)
        cover = _opacity(seed, corner, look, clouds)
        light *= 1 - np.float32(0.62) * _opacity(seed, toward_sun, look, clouds)

    bands = []
    for number, name in enumerate(BANDS["S2L2A"]):
        seen = _looks.reflectance(day)[number].take(code)
        seen *= light + _looks.VIGOUR[number] * vigour
        if above:
            seen = _looks.TOA[0, number] + _looks.TOA[1, number] * seen
        seen += cover * (_looks.CLOUD[number] - seen)
        bands.append(_sampled(seen, name, (grain >> np.uint32(2 * number)) & np.uint32(63)))
    if above:  # B10 sees water vapour and high cloud, never the ground
        high = np.full(code.shape, 12, np.float32) + 900 * cover
        bands.insert(10, _sampled(high, "B10", grain & np.uint32(7)))
    return np.stack(bands)


def _sampled(seen: Array, band: str, grain: Array) -> Array:
    """Blur to the sensor's sharpness, sample at 10, 20 or (for 60 m) 40 m, and add the sensor's noise."""
    if band in _FINE:
        rows = seen[1:-1] * np.float32(0.6) + (seen[:-2] + seen[2:]) * np.float32(0.2)
        sharp = rows[:, 1:-1] * np.float32(0.6) + (rows[:, :-2] + rows[:, 2:]) * np.float32(0.2)
        out = sharp[1:-1, 1:-1] + _core(grain).astype(np.float32) * np.float32(0.35)
        return np.maximum(out, 1).astype(np.uint16)
    times = 4 if band in ("B1", "B9", "B10") else 2
    coarse = _core(seen).reshape(TILE // times, times, TILE // times, times).mean(axis=(1, 3))
    coarse += _core(grain)[::times, ::times].astype(np.float32) * np.float32(0.35)
    return np.maximum(coarse, 1).astype(np.uint16).repeat(times, axis=0).repeat(times, axis=1)


def _opacity(seed: int, corner: Corner, look: int, clouds: float) -> Array:
    """How much of the light a cloud takes, 0 to 0.97, shape (SIDE, SIDE)."""
    seed = int(mix(seed + 44, look)[0])
    thickness = noise(seed, corner, (520, 0.75), (170, 0.5), (60, 0.35), (22, 0.2), (8, 0.08))
    # The noise is close to normal with this spread, so its quantile sets the covered share.
    threshold = 1.02 * NormalDist().inv_cdf(min(max(1 - clouds, 1e-4), 1 - 1e-4))
    return np.clip((thickness - np.float32(threshold)) * np.float32(1.7), 0, 0.97)


def _sentinel1(seed: int, corner: Corner, day: int, look: int, flattened: bool, units: str) -> Array:
    """Backscatter VV and VH, float32; ``flattened``, as by terrain correction, leaves out the slopes' brightness."""
    ground, (rows, columns) = land(seed, corner), pixels(corner)
    bright = noise(seed + 50, corner, (60, 0.45), (9, 0.35))
    if not flattened:
        bright += np.clip(8 * np.gradient(ground.height / np.float32(10), axis=1), -3.5, 5)
    level = _looks.backscatter(day)[:, ground.code]
    power = level + bright
    # Corners of houses send much more back, but not each one.
    glint = uniform(mix(seed + 53, rows, columns)) > 0.9
    power += np.float32(9) * ((level[0] > -4) & glint)
    power = _core(power) + np.stack([_speckle(seed + 51 + k, corner, look) for k in range(2)])
    return (10 ** (power / np.float32(10)) if units == "linear" else power).astype(np.float32)


def _speckle(seed: int, corner: Corner, look: int) -> Array:
    """Multiplicative noise of mean 1 in dB, as of a multi-looked and resampled product, shape (TILE, TILE)."""
    hashes = (mix(seed, look + k, *pixels(corner)) for k in (0, 7919))
    looks = np.add.reduce([-np.log(uniform(one) + np.float32(1e-7)) for one in hashes])
    # Neighbouring pixels share part of their looks.
    shared = looks[1:, 1:] + looks[1:, :-1] + looks[:-1, 1:] + looks[:-1, :-1]
    return 10 * np.log10(shared[1:-2, 1:-2] * np.float32(1 / 8))
