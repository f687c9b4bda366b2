"""Maps of classes: small integers, named by CF flag attributes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

NO_CLASS = -1
# Okabe and Ito's colours, told apart with any kind of colour vision, and some more.
_HEX = (
    "#e69f00 #56b4e9 #009e73 #f0e442 #0072b2 #d55e00 #cc79a7 #787878 #a03ca0 #5a3214 "
    "#9edae5 #98df8a #ffbb78 #c5b0d5 #17becf #8c564b #bcbd22 #f7b6d2 #1b4d3e #7f0000"
)
PALETTE = tuple(_HEX.split())


def as_codes(numbers: xr.DataArray, names: Sequence[str], colors: Sequence[str] = ()) -> xr.DataArray:
    """Codes of int16 with CF flags, of a float map; -1, which ``_FillValue`` names, where it is NaN.

    The names are those of the codes 0, 1, ..., with every sign that CF does not allow as ``_``.

    Examples
    --------
    >>> codes = as_codes(xr.DataArray([1.0, np.nan]), ["open water", "forest"])
    >>> codes.values, codes.attrs["flag_meanings"]
    (array([ 1, -1], dtype=int16), 'open_water forest')
    """
    codes: xr.DataArray = numbers.fillna(NO_CLASS).astype("int16")
    return codes.assign_attrs(
        _FillValue=np.int16(NO_CLASS),
        flag_values=np.arange(len(names), dtype="int16"),
        flag_meanings=" ".join(re.sub(r"[^A-Za-z0-9_.+@-]", "_", name) for name in names),
        flag_colors=" ".join(colors or (PALETTE[number % len(PALETTE)] for number in range(len(names)))),
    )


def flags_of(codes: xr.DataArray) -> dict[int, tuple[str, str]]:
    """What the codes of a map mean: code to name and colour; empty where attrs say nothing.

    Examples
    --------
    >>> flags_of(as_codes(xr.DataArray([1.0, 0.0]), ["water", "forest"]))
    {0: ('water', '#e69f00'), 1: ('forest', '#56b4e9')}
    """
    values = [int(value) for value in np.atleast_1d(codes.attrs.get("flag_values", ()))]
    names = str(codes.attrs.get("flag_meanings", "")).split()
    if len(names) != len(values):
        names = [str(value) for value in values]
    colors = str(codes.attrs.get("flag_colors", "")).split()
    if len(colors) != len(values):
        colors = [PALETTE[number % len(PALETTE)] for number in range(len(values))]
    return {
        value: (name.replace("_", " "), color)
        for value, name, color in zip(values, names, colors, strict=True)
    }


def is_hex_color(color: object) -> bool:
    """Whether this is a colour as ``#rrggbb``."""
    return isinstance(color, str) and re.fullmatch("#[0-9a-fA-F]{6}", color) is not None


def painted(codes: np.ndarray, colors: Mapping[int, str]) -> np.ndarray:
    """Codes (y, x) in their colours: (y, x, 4) in 0..1, clear where a code has none."""
    from matplotlib.colors import to_rgba

    picture = np.zeros((*codes.shape, 4), "float32")
    for code, color in colors.items():
        picture[codes == code] = to_rgba(color)
    return picture
