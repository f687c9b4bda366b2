"""What the numbers of a block say of their units, by quantiles; by extremes where these are the evidence."""

from __future__ import annotations

import numpy as np

from xr_rsembed.errors import SceneError, UnitsError
from xr_rsembed.inputs.cf import held_values
from xr_rsembed.inputs.likely import (
    check_amplitude,
    check_copies,
    check_swapped,
    check_thousandths,
    warn_once,
)
from xr_rsembed.inputs.record import Pixels
from xr_rsembed.inputs.units import wrong_units
from xr_rsembed.inputs.unstated import (
    BRIGHT,
    MANY,
    check_blended,
    check_fill,
    check_lone_fill,
    check_masks,
    check_not_zero,
    check_sentinel,
    unstated,
)

_SAMPLE = 5_000  # pixels of a block that are looked at
_SATURATED = 65535.0  # in Sentinel-2's DN
_BELOW_SHADOW = -400.0  # DN: dark water under a bad correction is above it
_OFFSET = 1000.0  # what Sentinel-2 DN carry from baseline 04.00 on
_NO_OFFSET = "dn = xr.where(da == 0, 0, (da.astype('int32') - 1000).clip(1)).assign_attrs(da.attrs)"
_NO_PACKING = 'da.attrs.pop("scale_factor", None); da.attrs.pop("add_offset", None)'
_FAINTEST = -60.0  # dB: noise is above it, the logarithm of a power of 0 that was raised a little below
_NOISE = -0.05  # linear power that the removal of noise left below 0 is nearer to 0 than that


def check_values(window: np.ndarray, valid: np.ndarray, pixels: Pixels) -> None:
    """Raise where the valid pixels of a block cannot be in the model's units."""
    if not pixels.units or not valid.any():
        return
    raw = _sample(window, valid)
    values = raw * pixels.scale + pixels.offset
    if pixels.units in ("DN", "dB", "linear", "8-bit"):
        check_not_zero(values, pixels)
    if pixels.to_db:
        _check_linear(values, pixels)
        return
    check_sentinel(raw)
    if pixels.units == "DN":
        check_fill(raw, pixels)
    if pixels.units in ("DN", "dB", "m"):
        _check_stretched(raw, window, valid, pixels)
    if pixels.packed and _fractions(raw):
        raise UnitsError(
            "The attrs say how whole numbers were packed, but the pixels are fractions: they were unpacked already.",
            found=f"pixels such as {raw.ravel()[0]:.6g} beside scale_factor or add_offset",
            expected="packed whole numbers, or no such attrs",
            remedy=_NO_PACKING,
        )
    if pixels.units in _CHECKS:
        _CHECKS[pixels.units](values, pixels)


def check_common(window: np.ndarray, pixels: Pixels) -> None:
    """Raise where a block without one valid pixel has bands that are whole and bands that are empty."""
    held = held_values(pixels.nodata, window.dtype)
    own = [float((~(np.isnan(band) | np.isin(band, held))).mean()) for band in window]
    if max(own) >= 0.5 and min(own) == 0.0:
        empty = [number for number, share in enumerate(own) if share == 0.0]
        raise SceneError(
            "Some bands hold nothing where others do: they may have been joined on unequal times.",
            found=f"no valid pixel in band number {', '.join(map(str, empty))} (counted from 0), "
            f"{max(own):.0%} valid pixels in others",
            expected="bands of one time and place",
            remedy='join them with xr.merge([...], join="exact"), which says which coords differ',
        )


def check_range(window: np.ndarray, valid: np.ndarray, inside: np.ndarray, pixels: Pixels) -> None:
    """Raise where the valid range in attrs leaves out nearly all that was measured: it belongs to other numbers.

    ``inside`` says which pixels (y, x) lie in it.
    """
    outside = valid & ~inside
    if not pixels.units or outside.sum() < max(MANY, 0.9 * valid.sum()):
        return
    found = _sample(window, outside)
    if len(np.unique(found)) > 10:  # else it is a fill
        raise UnitsError(
            "The range of valid numbers in attrs leaves out nearly every pixel: it may belong to other numbers.",
            found=f"pixels such as {found.ravel()[0]:.6g}, and a valid range of {pixels.valid_range}",
            expected="a range of the pixels as they are",
            remedy='for name in ("valid_range", "valid_min", "valid_max"): da.attrs.pop(name, None)',
        )


def _sample(window: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Valid pixels at even steps, float64, shape (band, n)."""
    index = np.flatnonzero(valid)
    index = index[:: max(1, index.size // _SAMPLE)]
    return window.reshape(len(window), -1)[:, index].astype("float64")


def _fractions(values: np.ndarray) -> bool:
    """Whether most of the numbers are no whole ones."""
    return float((values % 1.0 != 0.0).mean()) > 0.5


def _check_stretched(raw: np.ndarray, window: np.ndarray, valid: np.ndarray, pixels: Pixels) -> None:
    """Raise where each band runs from exactly 0 to exactly 1, which a minimum and a maximum of its own make of it."""
    # Red, green and blue may be cut off at a white cloud's 1.
    enough = {"DN": 4, "dB": 2, "m": 1}[pixels.units]
    if len(raw) < enough or raw.shape[1] < MANY or raw.min() < 0.0 or raw.max() > 1.0 or not _fractions(raw):
        return
    if all((band[valid].min(), band[valid].max()) == (0.0, 1.0) for band in window):
        raise UnitsError(
            "Each band runs from exactly 0 to exactly 1: it was stretched from its own minimum to its own maximum.",
            found="the same extremes in every band",
            expected=pixels.units,
            remedy='embed the pixels as they were before, or pass these on as they are with normalize="none"',
        )


# --- the units that models take -----------------------------------------------------------------------------


def _check_dn(values: np.ndarray, pixels: Pixels) -> None:
    low, middle, high = np.quantile(values, (0.02, 0.5, 0.98))
    fractions, many = _fractions(values), values.shape[1] >= MANY
    _check_wrapped(values, middle)
    check_masks(values, pixels)
    check_lone_fill(values, pixels)
    if low < 0.0 and high < 20.0 and fractions:
        raise _normalized(pixels)
    if low < 3 * _BELOW_SHADOW and pixels.offset >= 0.0:
        raise _impossible(
            "DN", f"2 % of the numbers below {low:.4g}", "reflectance * 10000, the darkest near 0", pixels
        )
    if middle < -100.0 or low < _BELOW_SHADOW:
        found = f"a median of {middle:.4g} DN, and 2 % of the numbers below {low:.4g}"
        if pixels.offset < 0.0:
            raise UnitsError(
                "Many DN are far below 0 once the offset in attrs is added: it may have been added before.",
                found=f"{found}, with an offset of {pixels.offset:g} DN",
                expected="raw pixels beside add_offset",
                remedy=_NO_PACKING,
            )
        raise UnitsError(
            "These numbers cannot be DN: many are far below 0, as if an offset had been taken off twice.",
            found=found,
            expected="reflectance * 10000, the darkest near 0",
            remedy="where that is so, dn = (da + 1000).assign_attrs(da.attrs), in reflectance da + 0.1; else say what "
            'the numbers are: units="..."',
        )
    if fractions and low >= 0.0 and high <= 3.0 and middle <= 1.2:
        raise wrong_units("reflectance", "DN")
    if fractions and many and pixels.scale == 1.0 and low >= 0.0 and 3.0 < high <= 110.0:
        raise wrong_units("%", "DN")
    if many and not fractions and 240.0 <= values.max() <= 255.0 and low >= 0.0:
        raise wrong_units("8-bit", "DN")
    if middle > BRIGHT and pixels.scale >= 100.0 and 1.0 <= (middle - pixels.offset) / pixels.scale <= BRIGHT:
        raise UnitsError(
            f"These numbers cannot be {pixels.stated or 'reflectance'}: they look like DN.",
            found=f"a median of {(middle - pixels.offset) / pixels.scale:.4g}",
            expected="reflectance of 0 to 1, or percent",
            remedy='embed(..., units="DN")'
            if pixels.stated
            else "da.drop_encoding(), which still tells how a file packed reflectance",
        )
    if middle > BRIGHT:
        raise _impossible("DN", f"a median of {middle:.4g}", "reflectance * 10000, most below 10000", pixels)
    if many and not fractions and pixels.offset == 0.0:
        _check_offset(float(np.quantile(values, 0.001)), pixels)
    if many:
        check_blended(values, pixels)
        check_thousandths(values, pixels)
        check_copies(values, pixels)


def _check_wrapped(values: np.ndarray, middle: float) -> None:
    share = float(((values > 60_000.0) & (values < _SATURATED)).mean())
    if share >= 0.001 and middle < BRIGHT:
        raise UnitsError(
            "Some DN lie just below 65536: whole numbers without a sign were taken below 0.",
            found=f"{share:.1%} of the numbers above 60000, half of all below {middle:.0f}",
            expected="reflectance * 10000",
            remedy=f"subtract in numbers with a sign, such as {_NO_OFFSET}",
        )


def _check_offset(darkest: float, pixels: Pixels) -> None:
    """Where nothing is darker than the offset, it may be there still; metadata make that sure."""
    if not 0.99 * _OFFSET <= darkest <= (1.5 if pixels.offset_due else 1.25) * _OFFSET:
        return
    if pixels.offset_due:
        raise UnitsError(
            "The scene's DN still hold the offset of 1000 that Sentinel-2 has from baseline 04.00 on.",
            found=f"no pixel below {darkest:.0f}, and metadata of baseline 04.00 or later",
            expected="DN = 10000 * reflectance, which shadow and water take near 0",
            remedy=f'{_NO_OFFSET}, or da.attrs["add_offset"] = -1000; where the scene is that bright, del the '
            "baseline from its metadata",
        )
    warn_once(
        "No pixel of a block is below 1000 DN. Clouds and deserts are that bright. A scene that is neither holds "
        f"the offset of Sentinel-2's baseline 04.00 (from January 2022 on): take it off, {_NO_OFFSET}, or say so, "
        'da.attrs["add_offset"] = -1000.'
    )


def _check_db(values: np.ndarray, pixels: Pixels) -> None:
    low, middle, high = np.quantile(values, (0.02, 0.5, 0.98))
    many, zero = values.shape[1] >= MANY, values == 0.0
    empty = float(zero.mean(axis=1).max())
    if many and empty >= 0.01 and np.median(values[~zero]) < -3.0:
        raise unstated(0.0, empty)  # noise is never exactly 0 that often
    if low >= 0.0 and middle < 1.0:
        raise wrong_units("linear", "dB")
    if -6000.0 < middle < -300.0 and not _fractions(values):
        raise UnitsError(
            "These whole numbers look like dB times 100, and nothing says so.",
            found=f"a median of {middle:.4g}",
            expected="backscatter of -40 to 20 dB",
            remedy='da = da.assign_attrs(units="dB", scale_factor=0.01)',
        )
    if many and -4.0 < low < 0.0 < high < 4.0:
        raise _normalized(pixels)
    if many and -60.0 < middle < 20.0:
        check_blended(values, pixels)
        check_swapped(values, pixels)
        faint = values < _FAINTEST
        if faint.mean(axis=1).max() >= 0.01:
            numbers, counts = np.unique(values[faint], return_counts=True)
            raise unstated(float(numbers[counts.argmax()]), float(faint.mean()))
        check_amplitude(10.0 ** (values / 10.0), "(2 * da).assign_attrs(da.attrs)", pixels)
    if not -60.0 < middle < 20.0:
        raise _impossible("dB", f"a median of {middle:.4g}", "backscatter of -40 to 20 dB", pixels)


def _check_linear(values: np.ndarray, pixels: Pixels) -> None:
    quarter, middle, high = np.quantile(values, (0.25, 0.5, 0.98))
    if -4.0 < quarter < _NOISE and 0.0 < high < 4.0 and values.shape[1] >= MANY:
        raise _normalized(pixels)
    if middle < _NOISE and pixels.units == "linear":
        raise wrong_units("dB", "linear")
    if middle >= 1.0 and not _fractions(values):
        raise _impossible(
            "linear power", f"whole numbers, half of them above {middle:.4g}", "calibrated power", pixels
        )
    if middle < _NOISE or middle > 40.0:
        expected = "power above 0" if middle < 0.0 else "most below 1"
        raise _impossible("linear power", f"a median of {middle:.4g}", expected, pixels)
    check_swapped(values, pixels)
    power = '(da.astype("float32") ** 2).assign_attrs(da.attrs, units="linear")'
    check_amplitude(values, power, pixels)


def _check_metres(values: np.ndarray, pixels: Pixels) -> None:
    low, high = np.quantile(values, (0.02, 0.98))
    beyond, counts = np.unique(values[(values < -12_000.0) | (values > 9_000.0)], return_counts=True)
    if counts.size and counts.max() >= max(10, 0.5 * counts.sum()):
        fill = (float(beyond[counts.argmax()]) - pixels.offset) / pixels.scale
        raise unstated(fill, float(counts.max() / values.size))
    if low < -12_000.0 or high > 9_000.0:
        raise _impossible("m", f"heights from {low:.4g} to {high:.4g}", "-11000 to 8900 m", pixels)


def _check_8bit(values: np.ndarray, pixels: Pixels) -> None:
    low, high = np.quantile(values, (0.02, 0.98))
    if low < -0.5 and high < 20.0:
        raise _normalized(pixels)
    if high > 280.0:  # resampling may overshoot 255
        found = f"numbers up to {high:.4g}"
        remedy = 'for reflectance * 10000 take the modality that it is of: modality="S2L2A", bands=[...]'
    elif high <= 1.5 and _fractions(values):
        found = f"fractions up to {high:.4g}"
        remedy = 'rgb = (da * 255).assign_attrs(da.attrs, units="8-bit")'
    else:
        return
    raise UnitsError(
        f"{pixels.modality} pixels are 8-bit counts, and these are not.",
        found=found,
        expected="0 to 255",
        remedy=remedy,
    )


_CHECKS = {
    "DN": _check_dn,
    "dB": _check_db,
    "linear": _check_linear,
    "m": _check_metres,
    "8-bit": _check_8bit,
}


def _normalized(pixels: Pixels) -> UnitsError:
    return UnitsError(
        "The scene looks normalized already.",
        found="numbers around 0, most between -4 and 4",
        expected=pixels.units,
        remedy='embed the raw pixels, or pass these on as they are with normalize="none"',
    )


def _impossible(units: str, found: str, expected: str, pixels: Pixels) -> UnitsError:
    stated = f", stated as {pixels.stated}" if pixels.stated else ""
    return UnitsError(
        f"These numbers cannot be {units}{stated}.",
        found=found,
        expected=expected,
        remedy='say what they are: units="...", as an argument or in da.attrs; or convert them',
    )
