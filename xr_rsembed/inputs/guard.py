"""What the numbers of a block say of their units: a model's pixels are judged by quantiles, never by one extreme."""

from __future__ import annotations

from typing import Any

import numpy as np

from xr_rsembed.errors import RsEmbedError, SceneError, UnitsError
from xr_rsembed.inputs.record import Pixels
from xr_rsembed.inputs.units import wrong_units

__all__ = ["check_common", "check_values"]

_SAMPLE = 5_000  # pixels of a block that are looked at
_MANY = 1000  # pixels from which on a likely, but not certain, mistake is called one
_SENTINELS = (-9999.0, -32768.0, -999.0, 1e20, -3.4028234663852886e38)
_OFFSET = 1000.0  # what Sentinel-2 DN carry from baseline 04.00 on

_NOISE = -0.05  # linear power that the removal of noise left below 0 is nearer to 0 than that


def check_values(window: np.ndarray, valid: np.ndarray, how: Pixels) -> None:
    """Raise where the valid pixels of a block cannot be in the model's units.

    Parameters
    ----------
    window : array, shape (band, y, x)
        Raw pixels.
    valid : bool array, shape (y, x)
    how : Pixels

    Raises
    ------
    SceneError
        If a number stands for nodata that nothing states, or all are 0.
    UnitsError
        If the numbers are in other units.
    """
    if not how.units or not valid.any():
        return
    raw = _sample(window, valid)
    values = raw * how.scale + how.offset
    if how.to_db:
        _check_linear(values, how, "dB")
        return
    _check_sentinel(raw)
    _check_packing(raw, how)
    check = {"DN": _check_dn, "dB": _check_db, "m": _check_metres, "8-bit": _check_8bit}.get(how.units)
    if how.units == "linear":
        _check_linear(values, how, "linear")
    elif check is not None:
        check(values, how)


def _sample(window: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Valid pixels at even steps, float64, shape (band, n)."""
    index = np.flatnonzero(valid)
    index = index[:: max(1, index.size // _SAMPLE)]
    return window.reshape(len(window), -1)[:, index].astype("float64")


def _check_dn(values: np.ndarray, how: Pixels) -> None:
    low, middle, high = np.quantile(values, (0.02, 0.5, 0.98))
    fractions, many = _fractions(values), values.shape[1] >= _MANY
    if not values.any():
        raise _all_zero(how)
    if low < 0.0 and high < 20.0 and fractions:
        raise _normalized(how)
    if how.offset < 0.0 and middle < -100.0:
        raise _offset_twice(middle, how)
    if fractions and low >= 0.0 and high <= 3.0 and middle <= 1.2:
        raise wrong_units("reflectance", "DN")
    if fractions and many and how.scale == 1.0 and low >= 0.0 and 3.0 < high <= 110.0:
        raise wrong_units("%", "DN")
    if many and not fractions and 240.0 <= values.max() <= 255.0 and low >= 0.0:
        raise wrong_units("8-bit", "DN")
    if middle < -100.0:
        raise _impossible("DN", f"a median of {middle:.4g}", "most reflectances above 0", how)
    if middle > 20_000.0:
        raise _impossible("DN", f"a median of {middle:.4g}", "reflectance * 10000, most below 10000", how)
    if how.offset_due and many:
        darkest = float(np.quantile(values, 0.001))
        if 0.99 * _OFFSET <= darkest <= 1.5 * _OFFSET:
            raise UnitsError(
                "The scene's DN still hold the offset of 1000 that Sentinel-2 has from baseline 04.00 on.",
                found=f"no pixel below {darkest:.0f}, and metadata of baseline 04.00 or later",
                expected="DN = 10000 * reflectance, which shadow and water take near 0",
                remedy="dn = xr.where(da == 0, 0, (da.astype('int32') - 1000).clip(1)).assign_attrs(da.attrs), or "
                'da.attrs["add_offset"] = -1000; where the scene is that bright, del the baseline from its metadata',
            )


def _check_db(values: np.ndarray, how: Pixels) -> None:
    low, middle, high = np.quantile(values, (0.02, 0.5, 0.98))
    if not values.any():
        raise _all_zero(how)
    empty = float((values == 0.0).mean())
    if middle < -3.0 and empty >= 0.01 and values.shape[1] >= _MANY:
        # Noise is never exactly 0 that often.
        raise _unstated(0.0, empty)
    if low >= 0.0 and middle < 1.0:
        raise wrong_units("linear", "dB")
    if -6000.0 < middle < -300.0 and not _fractions(values):
        raise UnitsError(
            "These whole numbers look like dB times 100, and nothing says so.",
            found=f"a median of {middle:.4g}",
            expected="backscatter of -40 to 20 dB",
            remedy='da = da.assign_attrs(units="dB", scale_factor=0.01)',
        )
    if values.shape[1] >= _MANY and -4.0 < low < 0.0 < high < 4.0:
        raise _normalized(how)
    if not -60.0 < middle < 30.0:
        raise _impossible("dB", f"a median of {middle:.4g}", "backscatter of -40 to 20 dB", how)


def _check_linear(values: np.ndarray, how: Pixels, wanted: str) -> None:
    quarter, middle, high = np.quantile(values, (0.25, 0.5, 0.98))
    if not values.any():
        raise _all_zero(how)
    if -4.0 < quarter < _NOISE and 0.0 < high < 4.0 and values.shape[1] >= _MANY:
        raise _normalized(how)
    if middle < _NOISE:
        if wanted == "linear":
            raise wrong_units("dB", "linear")
        raise _impossible("linear power", f"a median of {middle:.4g}", "power above 0", how)
    if middle > 100.0:
        raise _impossible("linear power", f"a median of {middle:.4g}", "most below 1", how)


def _check_metres(values: np.ndarray, how: Pixels) -> None:
    low, high = np.quantile(values, (0.02, 0.98))
    if low < -12_000.0 or high > 9_000.0:
        raise _impossible("m", f"heights from {low:.4g} to {high:.4g}", "-11000 to 8900 m", how)


def _check_8bit(values: np.ndarray, how: Pixels) -> None:
    low, high = np.quantile(values, (0.02, 0.98))
    if not values.any():
        raise _all_zero(how)
    if low < -0.5 and high < 20.0:
        raise _normalized(how)
    if high > 280.0:  # resampling may overshoot 255
        raise UnitsError(
            f"{how.modality} pixels are 8-bit counts, and these are not.",
            found=f"numbers up to {high:.4g}",
            expected="0 to 255",
            remedy='for reflectance * 10000 take the modality that it is of: modality="S2L2A", bands=[...]',
        )
    if high <= 1.5 and _fractions(values):
        raise UnitsError(
            f"{how.modality} pixels are 8-bit counts, and these are not.",
            found=f"fractions up to {high:.4g}",
            expected="0 to 255",
            remedy='rgb = (da * 255).assign_attrs(da.attrs, units="8-bit")',
        )


def _check_sentinel(raw: np.ndarray) -> None:
    for sentinel in _SENTINELS:
        share = float((raw == np.float64(np.float32(sentinel))).mean())
        if share >= 0.001:
            raise _unstated(sentinel, share)


def _check_packing(raw: np.ndarray, how: Pixels) -> None:
    if how.packed and _fractions(raw):
        raise UnitsError(
            "The attrs say how whole numbers were packed, but the pixels are fractions: they were unpacked already.",
            found=f"pixels such as {raw.ravel()[0]:.6g} beside scale_factor or add_offset",
            expected="packed whole numbers, or no such attrs",
            remedy='da.attrs.pop("scale_factor", None); da.attrs.pop("add_offset", None)',
        )


def check_common(window: np.ndarray, how: Pixels) -> None:
    """Raise where a block without one valid pixel has bands that are whole and bands that are empty."""
    own = [_own_share(band, how.nodata) for band in window]
    if max(own) >= 0.5 and min(own) == 0.0:
        empty = [number for number, share in enumerate(own) if share == 0.0]
        raise SceneError(
            "Some bands hold nothing where others do: they may have been joined on unequal times.",
            found=f"no valid pixel in band number {', '.join(map(str, empty))} (counted from 0), "
            f"{max(own):.0%} valid pixels in others",
            expected="bands of one time and place",
            remedy='join them with xr.merge([...], join="exact"), which says which coords differ',
        )


def _own_share(band: np.ndarray, nodata: tuple[float, ...]) -> float:
    return float((~(np.isnan(band) | np.isin(band, nodata))).mean())


def _fractions(values: np.ndarray) -> bool:
    """Whether most of the numbers are no whole ones."""
    return float((values % 1.0 != 0.0).mean()) > 0.5


def _unstated(sentinel: float, share: float) -> SceneError:
    return SceneError(
        f"The scene seems to mark invalid pixels by {sentinel:g}, but nothing says so.",
        found=f"{sentinel:g} in {share:.1%} of the pixels",
        expected="nodata in attrs, or NaN",
        remedy=f"da.rio.write_nodata({sentinel:g})",
    )


def _all_zero(how: Pixels) -> RsEmbedError:
    return SceneError(
        f"Every {how.modality} pixel of a block is 0, and nothing says that 0 is nodata.",
        found="zeros alone",
        expected=f"pixels in {how.units}",
        remedy="da.rio.write_nodata(0), where 0 marks the absence of a measurement",
    )


def _normalized(how: Pixels) -> UnitsError:
    return UnitsError(
        "The scene looks normalized already.",
        found="numbers around 0, most between -4 and 4",
        expected=how.units,
        remedy='embed the raw pixels, or pass these on as they are with normalize="none"',
    )


def _offset_twice(middle: float, how: Pixels) -> UnitsError:
    return UnitsError(
        "Most pixels are below 0 once the offset in attrs is added: it may have been added before.",
        found=f"a median of {middle:.4g} DN with an offset of {how.offset:g} DN",
        expected="raw pixels beside add_offset",
        remedy='da.attrs.pop("scale_factor", None); da.attrs.pop("add_offset", None)',
    )


def _impossible(units: str, found: str, expected: str, how: Pixels) -> UnitsError:
    said: Any = f", stated as {how.stated}" if how.stated else ""
    return UnitsError(
        f"These numbers cannot be {units}{said}.",
        found=found,
        expected=expected,
        remedy='say what they are: units="...", as an argument or in da.attrs; or convert them',
    )
