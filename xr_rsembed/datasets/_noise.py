"""Randomness that hangs on the pixel alone: hashed lattices and smooth noise between their points.

Nothing here keeps a state, so any window of a made scene is the same whatever window was computed before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

__all__ = ["Window", "fractal", "mix", "smooth_noise", "uniform"]

Array = np.ndarray


@dataclass(frozen=True)
class Window:
    """A square of pixels of the endless plane: the first row and column, and the number of pixels a side."""

    y0: int
    x0: int
    n: int

    @property
    def y(self) -> Array:
        """Pixel centres of the rows, float32, shape (n, 1)."""
        return (np.arange(self.n, dtype=np.float32) + np.float32(self.y0 + 0.5))[:, None]

    @property
    def x(self) -> Array:
        """Pixel centres of the columns, float32, shape (1, n)."""
        return (np.arange(self.n, dtype=np.float32) + np.float32(self.x0 + 0.5))[None, :]


def mix(seed: int, *parts: Array | int) -> Array:
    """Hash integers to uint32: every bit of the result hangs on every bit of every part."""
    state = np.uint32(seed & 0xFFFFFFFF)
    value: Array = np.atleast_1d(state ^ np.uint32(0x9E3779B9))  # arrays wrap around silently, scalars warn
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
def _spline_weights(phase: int, n: int, step: int) -> Array:
    """Cubic B-spline weights of the lattice points for n pixels from ``phase`` on, shape (n, points)."""
    position = (np.arange(n) + phase + 0.5) / step
    first = np.floor(position).astype(int)
    t = position - first
    weights = (
        np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1) / 6
    )
    matrix = np.zeros((n, int(first[-1]) + 4), dtype=np.float32)
    np.put_along_axis(matrix, first[:, None] + np.arange(4), weights.astype(np.float32), axis=1)
    return matrix


def smooth_noise(seed: int, window: Window, step: int) -> Array:
    """Smooth noise of zero mean and about unit variance, varying over ``step`` pixels, (n, n), float32."""
    (row, y_phase), (column, x_phase) = divmod(window.y0, step), divmod(window.x0, step)
    down, across = _spline_weights(y_phase, window.n, step), _spline_weights(x_phase, window.n, step)
    rows, columns = np.arange(down.shape[1]) + row, np.arange(across.shape[1]) + column
    points = uniform(mix(seed, step, rows[:, None], columns[None, :])) * np.float32(7.2) - np.float32(3.6)
    return down @ points @ across.T


def fractal(seed: int, window: Window, steps: tuple[int, ...], gains: tuple[float, ...]) -> Array:
    """A sum of smooth noises of several scales, shape (n, n), float32."""
    total = np.zeros((window.n, window.n), dtype=np.float32)
    for step, gain in zip(steps, gains, strict=True):
        total += np.float32(gain) * smooth_noise(seed, window, step)
    return total
