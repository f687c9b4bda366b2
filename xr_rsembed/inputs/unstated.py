"""Pixels that are no measurements though nothing says so: unstated nodata, masks, nodata blended by resampling."""

from __future__ import annotations

import numpy as np

from xr_rsembed.errors import SceneError
from xr_rsembed.inputs.record import Pixels

MANY = 1000  # pixels from which on a likely, but not certain, mistake is called one
BRIGHT = 20_000.0  # DN: as a median, beyond any surface
_SENTINELS = (-9999.0, -32768.0, -32767.0, -999.0, -99999.0, -(2.0**31), 1 - 2.0**31, 2.0**31 - 1)
_HUGE = 1e15  # beyond, floats mark nodata: 1e20, 3.4e38, 9.97e36
LIT = 500.0  # DN: as a median of the other bands, no water and no shadow
_NEAR_ZERO = 50.0  # DN: what is cut off at 0 leaves pixels between 0 and this, what is filled by 0 does not


def check_sentinel(raw: np.ndarray) -> None:
    marks, counts = np.unique(raw[np.isin(raw, _SENTINELS) | (np.abs(raw) >= _HUGE)], return_counts=True)
    if counts.size and counts.max() >= 0.001 * raw.size:
        raise unstated(float(marks[counts.argmax()]), float(counts.max() / raw.size))


def check_fill(raw: np.ndarray, pixels: Pixels) -> None:
    """Raise where at many pixels all bands hold one number that no measurement is, and nothing says what nodata is.

    So arithmetic and ``ds.to_array()`` leave a scene: the attrs are lost, the fill stays.
    """
    if pixels.nodata_stated or len(raw) < 3 or not raw.any():
        return
    alike, counts = np.unique(raw[0, (raw == raw[0]).all(axis=0)], return_counts=True)
    counts = counts * ((alike <= 0.0) | (alike >= BRIGHT))
    if counts.size and counts.max() >= max(10, 0.01 * raw.shape[1]):
        raise unstated(float(alike[counts.argmax()]), float(counts.max() / raw.shape[1]))


def check_not_zero(values: np.ndarray, pixels: Pixels) -> None:
    if not values.any():
        raise SceneError(
            f"Every {pixels.modality} pixel of a block is 0, and nothing says that 0 is nodata.",
            found="zeros alone",
            expected=f"pixels in {pixels.units}",
            remedy="da.rio.write_nodata(0), where 0 marks the absence of a measurement",
        )


def check_masks(values: np.ndarray, pixels: Pixels) -> None:
    """Raise where one of the bands says where the others are valid: two numbers alone."""
    for number, band in enumerate(values):
        most = band.max()
        dark = most == 1.0 and (np.median(values) < LIT or pixels.bands[number] == "B10")
        if dark or band.size < MANY or most not in (1.0, 255.0, 65535.0):
            continue
        if band.min() == 0.0 and np.isin(band, (0.0, most)).all():
            raise SceneError(
                "One of the bands is a mask, such as the alpha band of a file.",
                found=f"{most:g} and 0 alone in band number {number} (counted from 0)",
                expected="measurements in every band",
                remedy='name it: da.assign_coords(band=["B1", ..., "alpha"]); or open the file with '
                "xr_rsembed.open_scene, which knows alpha bands",
            )


def check_lone_fill(values: np.ndarray, pixels: Pixels) -> None:
    """Raise where one band of DN is one number at many pixels that the others see well: it is not there, or not all.

    The number is 0, or so high that nothing leads up to it. Cirrus (B10) is dark everywhere.
    """
    if len(values) < 3 or values.shape[1] < MANY:
        return
    for number, (name, band) in enumerate(zip(pixels.bands, values, strict=True)):
        odd = (band >= BRIGHT) | ((band == 0.0) & (not pixels.offset and name != "B10"))
        numbers, counts = np.unique(band[odd], return_counts=True)
        if not counts.size or counts.max() < 0.01 * band.size:
            continue
        fill = float(numbers[counts.argmax()])
        rest, others = band[band != fill], np.median(np.delete(values, number, axis=0)[:, band == fill])
        if fill:
            measured = others > BRIGHT / 2 or (rest.size and np.quantile(rest, 0.99) > fill / 2)
        else:
            measured = others < LIT or (rest.size and np.quantile(rest, 0.01) < _NEAR_ZERO)
        if measured:
            continue
        raw = (fill - pixels.offset) / pixels.scale
        mark = f'da.attrs["missing_value"] = {raw:g}' if pixels.nodata else f"da.rio.write_nodata({raw:g})"
        kept = ", ".join(f'"{other}"' for other in pixels.bands if other != name)
        raise SceneError(
            f"The band {name} is {raw:g} where the others {'are not' if fill else 'are bright'}, and nothing says that "
            f"{raw:g} is nodata.",
            found=f"{raw:g} in {1 - rest.size / band.size:.1%} of its pixels",
            expected="measurements in every band, or nodata in attrs",
            remedy=f"{mark}, where {raw:g} marks the absence of a measurement"
            if rest.size
            else f'bands={{"{pixels.modality}": [{kept}]}} embeds what is there, where the model takes some bands',
        )


def check_blended(values: np.ndarray, pixels: Pixels) -> None:
    """Raise where a few numbers lie between nodata and what is measured: nodata was resampled with its neighbours."""
    low, high = {"DN": (-1050.0, 40_000.0), "dB": (-200.0, np.inf)}[pixels.units]
    beyond = (values < low) | ((values > high) & (values < 60_000.0))
    if beyond.sum() < max(10, 0.0005 * values.size):
        return
    found = values[beyond]
    if len(np.unique(found)) == 1:
        raise unstated((float(found[0]) - pixels.offset) / pixels.scale, float(beyond.mean()))
    below = bool(found.min() < low)
    kept = (
        f"> {(low - pixels.offset) / pixels.scale:.6g}"
        if below
        else f"< {(high - pixels.offset) / pixels.scale:.6g}"
    )
    raise SceneError(
        f"Some numbers lie between nodata and {pixels.units}: pixels without a measurement were blended into others.",
        found=f"numbers from {found.min():.4g} to {found.max():.4g} in {beyond.mean():.2%} of the pixels",
        expected="nodata that was made NaN before interp, mean or resampling",
        remedy=f"da.where(da != nodata) before that step; what is blended already goes by da.where(da {kept})",
    )


def unstated(fill: float, share: float) -> SceneError:
    return SceneError(
        f"The scene seems to mark invalid pixels by {fill:g}, but nothing says so.",
        found=f"{fill:g} in {share:.1%} of the pixels",
        expected="nodata in attrs, or NaN",
        remedy=f"da.rio.write_nodata({fill!r})" if abs(fill) >= 1e6 else f"da.rio.write_nodata({fill:g})",
    )
