"""From the scenes of several dates to one image: plain numpy over a stack, exact in integers.

A stack has shape (date, y, x). A pixel that is not there holds the stack's *gap*: the highest value of an integer
dtype (which Sentinel-2 uses for nothing but saturation), or NaN. Gaps sort to the end, which is all a median needs.
"""

from __future__ import annotations

import numpy as np

_STRIP = 1 << 20  # values that are sorted at a time: they stay in the processor's cache


def gap(dtype: np.dtype) -> float:
    """The value of a pixel that is not there.

    >>> gap(np.dtype("uint16")), gap(np.dtype("float32"))
    (65535, nan)
    """
    return int(np.iinfo(dtype).max) if dtype.kind in "iu" else float("nan")


def is_gap(pixels: np.ndarray) -> np.ndarray:
    """Where pixels are not there (bool)."""
    return pixels == gap(pixels.dtype) if pixels.dtype.kind in "iu" else np.isnan(pixels)


def stored_as(values: np.ndarray, dtype: np.dtype, nodata: float) -> np.ndarray:
    """Floats, NaN where nothing is valid, in a stack's dtype; what was measured stays valid.

    In integers a half rounds up, and a value that the dtype, the gap or a ``nodata`` of 0 leaves no room for moves to
    the nearest one that it does.

    >>> stored_as(np.array([np.nan, -100.0, 500.5, 70000.0]), np.dtype("uint16"), nodata=0)
    array([65535,     1,   501, 65534], dtype=uint16)
    """
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    rounded = values + values.dtype.type(0.5)  # in place from here on: many of these are made at a time
    np.floor(rounded, out=rounded)
    np.clip(rounded, 1 if nodata == 0 else 0, gap(dtype) - 1, out=rounded)
    rounded[np.isnan(rounded)] = gap(dtype)
    return rounded.astype(dtype)


def lay_over(base: np.ndarray, pixels: np.ndarray) -> None:
    """Fill the gaps of ``base``, in place, with pixels of a later image of the same day."""
    np.copyto(base, pixels, where=is_gap(base))


def compose(stack: np.ndarray, how: str | None, fill: float) -> np.ndarray:
    """One image (y, x) from a stack; ``fill`` where it has gaps only, from which measured pixels move aside by 1.

    >>> stack = np.array([[[10]], [[65535]], [[13]]], dtype="uint16")
    >>> [compose(stack, how, fill=0).item() for how in ("median", "mean", "first", "last")]
    [12, 12, 10, 13]
    """
    measured = ~is_gap(stack)
    count = measured.sum(axis=0)
    if len(stack) == 1:
        image = stack[0]
    elif how == "median":
        image = _median(stack, count)
    elif how == "mean":
        image = _halved(stack.sum(axis=0, where=measured, dtype=_wide(stack.dtype)), count, stack.dtype)
    else:
        order = slice(None, None, -1 if how == "last" else 1)
        image = np.take_along_axis(stack[order], measured[order].argmax(axis=0)[None], axis=0)[0]
    fill_ = stack.dtype.type(fill)
    beside = fill_ + 1 if stack.dtype.kind in "iu" and fill_ < gap(stack.dtype) else fill_ - 1
    image = np.where(image == fill_, beside, image)  # measured, so not nodata
    return np.where(count > 0, image, fill_)


def _wide(dtype: np.dtype) -> np.dtype:
    """The dtype in which sums are exact."""
    return np.dtype("int64" if dtype.kind in "iu" else "float64")


def _halved(total: np.ndarray, count: np.ndarray | int, dtype: np.dtype) -> np.ndarray:
    """total / count, in integers rounded with halves up."""
    if dtype.kind in "iu":
        return ((2 * total + count) // (2 * np.maximum(count, 1))).astype(dtype)
    return (total / np.maximum(count, 1)).astype(dtype)


def _median(stack: np.ndarray, count: np.ndarray) -> np.ndarray:
    dates, height, width = stack.shape
    wide = _wide(stack.dtype)
    image = np.empty((height, width), stack.dtype)
    rows = max(1, _STRIP // (dates * width))
    for top in range(0, height, rows):
        strip = np.s_[top : top + rows]
        # Dates last and contiguous: sorting short runs in place is several times faster than along axis 0.
        ordered = np.ascontiguousarray(np.moveaxis(stack[:, strip], 0, -1))
        ordered.sort(axis=-1)
        n = np.maximum(count[strip], 1)[..., None]
        low = np.take_along_axis(ordered, (n - 1) // 2, axis=-1)[..., 0].astype(wide)
        high = np.take_along_axis(ordered, n // 2, axis=-1)[..., 0].astype(wide)
        image[strip] = _halved(low + high, 2, stack.dtype)
    return image
