"""Units of raw pixels: the words for them, and how one becomes another."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xr_rsembed.errors import UnitsError
from xr_rsembed.inputs.cf import Packing
from xr_rsembed.models.spec import Modality

_WORDS = {
    "DN": "dn, digital number, digital numbers, reflectance * 10000, reflectance x 10000, reflectance*10000",
    "reflectance": "reflectance, surface reflectance, toa reflectance, boa reflectance, sr",
    "%": "%, percent, per cent, pct, percentage, percent reflectance, reflectance (%)",
    "8-bit": "8-bit, 8bit, 8 bit, 8-bit counts, uint8, byte, bytes",
    "counts": "counts, count",
    "dB": "db, decibel, decibels, db (sigma0), db (gamma0)",
    "linear": "linear, linear power, power, intensity, linear intensity, linear scale, m2 m-2, m2/m2, m^2/m^2, m2.m-2",
    "amplitude": "amplitude, linear amplitude, magnitude",
    "m": "m, metre, meter, metres, meters",
    "dm": "dm, decimetre, decimeter, decimetres, decimeters",
    "cm": "cm, centimetre, centimeter, centimetres, centimeters",
    "mm": "mm, millimetre, millimeter, millimetres, millimeters",
    "km": "km, kilometre, kilometer, kilometres, kilometers",
    "ft": "ft, foot, feet, international foot, international feet",
    "us-ft": "us-ft, us survey foot, us survey feet, survey foot, survey feet, ftus, us_survey_foot",
}
_NAMES = {word.replace("_", " "): name for name, words in _WORDS.items() for word in words.split(", ")}
# Dimensionless, or nothing said: CF's "1" stands on reflectance and on DN alike.
_SILENT = ("", "1", "none", "unitless", "dimensionless", "n/a", "na", "-", "unknown")
# Each unit of a kind in its first one.
_KINDS: tuple[dict[str, float], ...] = (
    {"reflectance": 1.0, "%": 0.01, "DN": 1e-4},
    {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "km": 1000.0, "ft": 0.3048, "us-ft": 1200 / 3937},
)
# A packed whole number times less than this is reflectance: as DN it could not reach 66.
_REFLECTANCE_SCALE = 1e-3


def stated_units(scene: xr.DataArray, argument: str | None, own: str = "") -> str:
    """The units that the argument, else the attrs, state, by one name; empty where nothing is said.

    ``own`` are the model's, which may be others than those known here.

    >>> stated_units(xr.DataArray(0, attrs={"units": "Feet"}), None)
    'ft'
    """
    value: Any = scene.attrs.get("units") if argument is None else argument
    if isinstance(value, (tuple, list)):
        words = {str(one).strip().lower() for one in value}
        if len(words) > 1:
            raise UnitsError(
                "The bands are in different units.",
                found=", ".join(sorted(words)),
                expected="one unit for all bands",
                remedy='convert the bands, then da.attrs["units"] = "DN", or whatever they are in now',
            )
        value = words.pop() if words else None
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    text = "" if value is None else str(value).strip().lower().replace("_", " ")
    if text in _SILENT:
        return ""
    if text == own.lower():
        return own
    if text not in _NAMES:
        raise _unknown(value, argument is None, own)
    return _NAMES[text]


def _unknown(value: Any, in_attrs: bool, own: str) -> UnitsError:
    """The error for words that are no units of ours; a number among them is a scale."""
    kinds = (*_KINDS, {"linear": 1.0, "dB": 1.0})
    convertible = next(([*kind] for kind in kinds if own in kind), ["reflectance", *_WORDS])
    remedy = 'units="..." as an argument, with the one of these that the pixels are in; it goes before attrs'
    try:
        scale = float(value)
    except (TypeError, ValueError):
        scale = 0.0
    if 0.0 < scale < 1.0:
        remedy = (
            f'da.assign_attrs(scale_factor={scale:g}, units="{convertible[0]}"), where pixels times that are '
            f"{convertible[0]}; else {remedy}"
        )
    return UnitsError(
        "Unknown units.",
        found=f"{'da.attrs[' + repr('units') + ']' if in_attrs else 'units='} {value!r}",
        expected=", ".join(f"{name!r}" for name in dict.fromkeys(convertible)),
        remedy=remedy,
    )


def reading(scene: xr.DataArray, kind: Modality, stated: str, packing: Packing) -> tuple[float, float, bool]:
    """How raw pixels become the model's: ``raw * scale + offset``, and whether that power is then turned into dB."""
    scale, offset = (1.0, 0.0) if packing.decoded else (packing.scale, packing.offset)
    units = _value_units(kind, stated, packing)
    if not kind.units or units in ("", kind.units) or (units == "counts" and kind.units in ("DN", "8-bit")):
        _refuse_doubt(scene, kind, units, packing)
        return scale, offset, False
    if (units, kind.units) == ("linear", "dB"):
        return scale, offset, True
    table = next((one for one in _KINDS if units in one and kind.units in one), None)
    if table is None:
        raise wrong_units(units, kind.units)
    factor = table[units] / table[kind.units]
    return scale * factor, offset * factor, False


def wrong_units(found: str, expected: str) -> UnitsError:
    """The error for pixels in units that the model does not take, with the line that mends it."""
    remedies = {
        ("dB", "linear"): 'linear = (10 ** (da / 10)).assign_attrs(da.attrs, units="linear")',
        ("linear", "dB"): 'say so: units="linear" or da.attrs["units"] = "linear"; it is then converted',
        ("reflectance", "DN"): 'say so: units="reflectance" (da * 10000 in DN); it is then converted',
        ("%", "DN"): 'where they are percent, say so: units="%" (da * 100 in DN); it is then converted',
        ("DN", "8-bit"): 'where they are 0 to 255, say so: units="8-bit"; reflectance * 10000 is no picture, '
        'but modality="S2L2A", bands=[...]',
        ("DN", "reflectance"): 'say so: units="DN"; it is then converted',
        ("8-bit", "DN"): "take the 16-bit product; or, where 255 stood for a reflectance of 1, "
        'dn = (da.astype("float32") * (10000 / 255)).assign_attrs(da.attrs, units="DN")',
        ("amplitude", "linear"): 'power = (da.astype("float32") ** 2).assign_attrs(da.attrs, units="linear")',
        ("amplitude", "dB"): 'power = (da.astype("float32") ** 2).assign_attrs(da.attrs, units="linear")',
    }
    return UnitsError(
        f"The scene is in {found}, the model takes {expected}.",
        found=found,
        expected=expected,
        remedy=remedies.get(
            (found, expected), f'convert the pixels and set da.attrs["units"] = "{expected}"'
        ),
    )


def _value_units(kind: Modality, stated: str, packing: Packing) -> str:
    """Units of the unpacked values."""
    optical = _KINDS[0]
    if kind.units not in optical or packing.scale == 1.0 or (stated in optical and stated != "DN"):
        return stated
    if abs(packing.scale) < _REFLECTANCE_SCALE:
        return "reflectance"
    if stated or abs(packing.scale) >= 1.0:
        return stated
    raise UnitsError(
        f"The scene is packed with a scale of {packing.scale:g}, and nothing says in which units.",
        found=f"scale_factor {packing.scale:g}, add_offset {packing.offset:g}, no units",
        expected="'reflectance', '%' or 'DN'",
        remedy='units="reflectance", if the unpacked values are',
    )


def _refuse_doubt(scene: xr.DataArray, kind: Modality, units: str, packing: Packing) -> None:
    """Integers for radar are a doubt that no value range can decide."""
    if kind.units in ("dB", "linear") and not units and not packing and scene.dtype.kind in "ui":
        raise UnitsError(
            f"{kind.name} pixels of dtype {scene.dtype} could be scaled in many ways.",
            found=f"dtype {scene.dtype}, no units in attrs",
            expected=f"floating {kind.units}",
            remedy='convert to floats, then embed(..., units="dB") or units="linear"',
        )
    if kind.units == "DN" and units != "8-bit" and not packing and scene.dtype.itemsize == 1:
        raise wrong_units("8-bit", "DN")
