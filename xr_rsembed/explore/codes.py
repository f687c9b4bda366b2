"""Maps of classes: small integers whose names CF's flags tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import xarray as xr

__all__ = ["NO_CLASS", "PALETTE", "as_codes", "flags_of"]

NO_CLASS = -1
# Okabe and Ito's colours, told apart with any kind of colour vision, and some more.
PALETTE = (
    *(
        "#e69f00",
        "#56b4e9",
        "#009e73",
        "#f0e442",
        "#0072b2",
        "#d55e00",
        "#cc79a7",
        "#787878",
        "#a03ca0",
        "#5a3214",
    ),
    *(
        "#9edae5",
        "#98df8a",
        "#ffbb78",
        "#c5b0d5",
        "#17becf",
        "#8c564b",
        "#bcbd22",
        "#f7b6d2",
        "#1b4d3e",
        "#7f0000",
    ),
)


def as_codes(numbers: xr.DataArray, names: Sequence[str], colors: Sequence[str] = ()) -> xr.DataArray:
    """Integer codes with CF flags, of a float map in which invalid cells are NaN.

    Parameters
    ----------
    numbers : DataArray
    names : sequence of str
        Of the codes 0, 1, ...; ``flag_meanings`` has them with every sign that CF does not allow there as ``_``.
    colors : sequence of str
        Of the codes, ``#rrggbb``, for ``flag_colors``; by default ours.

    Returns
    -------
    DataArray, int16
        -1, which ``_FillValue`` names, where ``numbers`` is NaN.

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
