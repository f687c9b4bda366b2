"""Maps of classes: small integers whose names CF's flags tell."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import xarray as xr

__all__ = ["NO_CLASS", "as_codes"]

NO_CLASS = -1


def as_codes(numbers: xr.DataArray, names: Sequence[str]) -> xr.DataArray:
    """Integer codes with CF flags, of a float map in which invalid cells are NaN.

    Parameters
    ----------
    numbers : DataArray
    names : sequence of str
        Of the codes 0, 1, ...; ``flag_meanings`` has them with every sign that CF does not allow there as ``_``.

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
    )
