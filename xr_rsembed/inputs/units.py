"""Units of raw pixels: what is stated, what a model takes, and what is only assumed."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xr_rsembed.errors import UnitsError
from xr_rsembed.models.spec import Modality

__all__ = ["settle_units", "wrong_units"]

_UNITS = {
    "DN": ("dn", "digital number", "digital numbers", "digital_number", "digital_numbers", "counts"),
    "dB": ("db", "decibel", "decibels"),
    "linear": ("linear", "linear power", "linear_power", "power", "intensity"),
    "reflectance": (
        "reflectance",
        "surface reflectance",
        "surface_reflectance",
        "toa reflectance",
        "toa_reflectance",
    ),
    "m": ("m", "metre", "meter", "metres", "meters"),
}


def settle_units(scene: xr.DataArray, kind: Modality, stated: str | None) -> tuple[bool, str]:
    """Hold the units that are stated, or stand in attrs, against those that a modality takes.

    Returns
    -------
    bool
        Whether linear power is to be turned into dB.
    str
        Units that are only assumed, and that a block's values must bear out; else empty.

    Raises
    ------
    UnitsError
        If the units are others, unknown, or in doubt.
    """
    if not kind.units:
        return False, ""
    known = _units_name(stated) if stated is not None else _units_name(scene.attrs.get("units"))
    if stated is not None and known is None:
        raise UnitsError("Unknown units.", found=repr(stated), expected="'DN', 'dB' or 'linear'")
    if known == kind.units:
        return False, ""
    if known is None:
        _refuse_doubt(scene, kind)
        return False, kind.units if kind.units in ("DN", "dB", "linear") else ""
    if (known, kind.units) == ("linear", "dB"):
        return True, ""
    raise wrong_units(known, kind.units)


def wrong_units(found: str, expected: str) -> UnitsError:
    """The error for pixels in units that the model does not take, with the conversion."""
    remedies = {
        ("dB", "linear"): 'linear = (10 ** (da / 10)).assign_attrs(da.attrs, units="linear")',
        ("linear", "dB"): 'say so: units="linear" or da.attrs["units"] = "linear"; it is then converted',
        ("reflectance", "DN"): 'dn = (da * 10000).assign_attrs(da.attrs, units="DN")',
    }
    return UnitsError(
        f"The scene is in {found}, the model takes {expected}.",
        found=found,
        expected=expected,
        remedy=remedies.get(
            (found, expected), f'convert the pixels and set da.attrs["units"] = "{expected}"'
        ),
    )


def _units_name(value: Any) -> str | None:
    if isinstance(value, (tuple, list)):
        value = value[0] if len({str(one).lower() for one in value}) == 1 else None
    text = str(value).strip().lower() if value is not None else ""
    return next((name for name, words in _UNITS.items() if text in words), None)


def _refuse_doubt(scene: xr.DataArray, kind: Modality) -> None:
    """Integers for radar are a doubt that no value range can settle."""
    if kind.units in ("dB", "linear") and scene.dtype.kind in "ui":
        raise UnitsError(
            f"{kind.name} pixels of dtype {scene.dtype} could be scaled in many ways.",
            found=f"dtype {scene.dtype}, no units in attrs",
            expected=f"floating {kind.units}",
            remedy='convert to floats, then embed(..., units="dB") or units="linear"',
        )
