"""Warnings of a block's pixels: what may be meant, and hardly ever is."""

from __future__ import annotations

import warnings

import numpy as np

from xr_rsembed.errors import RsEmbedWarning
from xr_rsembed.inputs.record import Pixels
from xr_rsembed.inputs.unstated import LIT, MANY


def warn_once(text: str) -> None:
    warnings.warn(text, RsEmbedWarning, stacklevel=3)  # which shows one text once, not once a block


def check_thousandths(values: np.ndarray, pixels: Pixels) -> None:
    """Warn where most of a block is vegetation, by the shape of its spectra, and darker than any in the sun."""
    if not {"B4", "B8", "B11"} <= {*pixels.bands} or np.quantile(values, 0.98) > 700.0:
        return
    red, near, short = (values[pixels.bands.index(band)] for band in ("B4", "B8", "B11"))
    if float(((near > 100.0) & (near > 4.0 * red) & (short > 0.25 * near)).mean()) > 0.5:
        warn_once(
            "Most pixels of a block look like vegetation a tenth as bright as in the sun: the numbers may be "
            'reflectance * 1000. Where they are: (da / 1000).assign_attrs(da.attrs, units="reflectance").'
        )


def check_amplitude(power: np.ndarray, remedy: str, pixels: Pixels) -> None:
    """Warn where VH is as strong beside VV, and as even, as in the square root of power alone.

    A city's VH is uneven, a forest's below 0.1, and that of calm water is weak.
    """
    if power.shape[1] < MANY or not {"VV", "VH"} <= {*pixels.bands}:
        return
    co, cross = (power[pixels.bands.index(band)] for band in ("VV", "VH"))
    positive = (co > 0.0) & (cross > 0.0)
    if positive.mean() < 0.5:
        return
    middle, high = np.quantile(cross[positive], (0.5, 0.98))
    if middle > 0.1 and high < 3.0 * middle and np.median(cross[positive] / co[positive]) > 0.35:
        warn_once(
            "VH is stronger beside VV than any surface sends it back: the numbers may be amplitude, the square root "
            f"of power. Make power of it, {remedy}, where they are."
        )


def check_swapped(values: np.ndarray, pixels: Pixels) -> None:
    """Warn where VH is twice as strong as VV, which no surface sends back; ``values`` in dB or power."""
    if values.shape[1] < MANY or not {"VV", "VH"} <= {*pixels.bands}:
        return
    co, cross = (np.median(values[pixels.bands.index(band)]) for band in ("VV", "VH"))
    if cross - co > 3.0 if pixels.units == "dB" and not pixels.to_db else cross > 2.0 * co > 0.0:
        warn_once(
            "VH is twice as strong as VV, which no surface sends back: the bands may be swapped. Where they are: "
            'da.assign_coords(band=["VH", "VV"]).rsembed.to_bands(model), by what each is.'
        )


def check_copies(values: np.ndarray, pixels: Pixels) -> None:
    """Warn where two bands hold the same pixels, or one a single number."""
    if len(values) < 3 or np.median(values) < LIT:
        return
    for number, (name, band) in enumerate(zip(pixels.bands, values, strict=True)):
        if name != "B10" and band.min() == band.max():
            warn_once(
                f"The band {name} is {band[0]:g} at every pixel of a block: it may have been filled in."
            )
        for other in range(number):
            if np.ptp(band) > 0.0 and np.array_equal(band, values[other]):
                warn_once(
                    f"The bands {pixels.bands[other]} and {name} hold the same pixels: one may be a copy of the other."
                )
