"""What the stored values of an asset mean: scale, offset, nodata and unit, by what the item says.

The words are those of STAC's common metadata and raster extension, of either version, and of the catalogues that had
words of their own before (Earth Search v0, Digital Earth Africa). Nothing is guessed from a date or a catalogue's name.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xr_rsembed.errors import CatalogError, RsEmbedWarning

DN_PER_REFLECTANCE = 10_000
_BELOW_ZERO_SHARE = 0.05  # of the valid pixels after subtracting; more gives a warning
_IMPOSSIBLE_DN = -400  # as a median: no surface reflects -4 %, but land whose offset is subtracted twice does
_BRIGHTEST = 3.0  # reflectance: as a median beyond any surface


@dataclass(frozen=True)
class Encoding:
    """How stored values become Sentinel-2 DN (10000 x reflectance) or linear power."""

    optical: bool = True  # Sentinel-2, else Sentinel-1
    scale: float | None = (
        None  # of one stored unit; None where nobody says: integers are DN, floats reflectance
    )
    offset: float = 0.0  # to add after scaling, in DN or linear power
    offset_stated: bool = True  # by the item itself, rather than concluded from its processing baseline
    nodata: float | None = None  # by the item; what the file says holds as well
    decibels: bool = False


def encoding_of(
    item: Mapping[str, Any],
    asset: Mapping[str, Any],
    optical: bool,
    scale: float | None = None,
    offset: float | Mapping[str, float] | None = None,
) -> Encoding:
    """The encoding of an asset, as the item states it or, first of all, as the user does: an offset also by item id."""
    name = item.get("id")
    given = offset.get(str(name)) if isinstance(offset, Mapping) else offset
    try:
        stated_scale = _number(item, asset, "scale")
        if scale is None and stated_scale != 1:  # 1 is what says nothing: stored integers are DN
            scale = stated_scale
        nodata = _number(item, asset, "nodata")
        stated = _number(item, asset, "offset")
    except (AttributeError, TypeError, ValueError) as error:
        raise CatalogError(
            f"Item {name} describes its raster in a way that is not valid STAC.",
            found=error,
            expected="numbers for scale, offset and nodata",
            remedy=f"skip_items=[{name!r}] leaves it out",
        ) from None
    if not optical:
        unit = str(next((raster["unit"] for raster in _rasters(item, asset) if "unit" in raster), ""))
        decibels = unit.lower() in ("db", "decibel")
        return Encoding(False, scale, float(given or stated or 0), True, nodata, decibels)
    in_dn, by_word = boa_offset(item, stated) if given is None else (float(given), True)
    return Encoding(True, scale, in_dn, by_word, nodata)


def boa_offset(item: Mapping[str, Any], stated: float | None = None) -> tuple[float, bool]:
    """What to add to a Sentinel-2 DN so that it means 10000 x reflectance, and whether the item itself says so.

    Since processing baseline 04.00 products store reflectances shifted by 1000; some catalogues take the shift
    out again. In this order: the item's own word that it is gone, the offset that its asset states (``stated``, in
    reflectance, or in DN where it is 1 or more), the baseline.

    >>> boa_offset({"properties": {"s2:processing_baseline": "04.00"}})
    (-1000.0, False)
    >>> boa_offset({"properties": {"earthsearch:boa_offset_applied": True}}, stated=-0.1)
    (0.0, True)
    """
    removed = property_named(item, "boa_offset_applied")
    if str(removed).lower() in ("true", "1"):
        return 0.0, True
    if stated is not None:
        return (stated if abs(stated) >= 1 else round(stated * DN_PER_REFLECTANCE, 6)), True
    if version := baseline(item):
        return (-1000.0 if version >= "04.00" else 0.0), False
    raise CatalogError(
        f"Item {item.get('id')} does not say whether its reflectances are shifted by 1000.",
        expected="boa_offset_applied, raster:offset, or processing_baseline, by any catalogue's prefix",
        remedy="offset=0 or offset=-1000, if you know",
    )


def baseline(item: Mapping[str, Any]) -> str | None:
    """The processing baseline, such as ``04.00``, by property or by the product's name."""
    for text in (property_named(item, "processing_baseline"), property_named(item, "processing:version")):
        if match := re.match(r"(\d{1,2})\.(\d{1,2})", str(text or "")):
            return f"{int(match[1]):02d}.{match[2]:0<2}"
    names = (property_named(item, name) for name in ("product_uri", "product_id", "title"))
    for title in (*names, item.get("id")):
        if match := re.search(r"_N(\d{2})(\d{2})_", str(title)):
            return f"{match[1]}.{match[2]}"
    return None


def property_named(item: Mapping[str, Any], name: str) -> Any:
    """A property of an item by its name, whatever prefix a catalogue gives it; None where there is none.

    >>> property_named({"properties": {"sentinel:processing_baseline": "04.00"}}, "processing_baseline")
    '04.00'
    """
    properties = (item.get("properties") or {}).items()
    found = (value for key, value in properties if name in (key, key.rpartition(":")[2]))
    return next((value for value in found if value is not None), None)


def _rasters(item: Mapping[str, Any], asset: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Where an asset's raster may be described, the closest first: STAC 1.1's bands, asset, raster:bands, item."""
    yield from (asset.get("bands") or ())[:1]
    yield asset
    yield from (asset.get("raster:bands") or ())[:1]
    yield {
        name: value
        for name, value in (item.get("properties") or {}).items()
        if name == "nodata" or name.startswith("raster:")
    }


def _number(item: Mapping[str, Any], asset: Mapping[str, Any], name: str) -> float | None:
    for raster in _rasters(item, asset):
        value = raster.get(f"raster:{name}", raster.get(name))
        if value is not None:
            return float(value)  # also "nan", "inf" and "-inf", as STAC writes them
    return None


def decode(
    stored: np.ndarray,
    encoding: Encoding,
    dtype: str,
    file_scale: float = 1.0,
    what: str = "",
    item: str = "",
) -> np.ndarray:
    """Stored values as DN or linear power; invalid ones are and become NaN.

    >>> decode(np.array([np.nan, 900, 1500], "float32"), Encoding(offset=-1000.0), "uint16")
    array([  nan, -100.,  500.], dtype=float32)
    """
    scale = encoding.scale or (file_scale if file_scale != 1 else None)
    if not encoding.optical:
        return _power(stored, scale or 1.0, encoding)
    if scale is None and np.dtype(dtype).kind == "f":
        _check_reflectance(stored, encoding, dtype, what)
        scale = 1.0
    factor = 1.0 if scale is None else round(scale * DN_PER_REFLECTANCE, 9)
    values = stored if factor == 1 else stored.astype("float64") * factor
    if encoding.offset:
        values = values + values.dtype.type(encoding.offset)
        _check_below_zero(values, encoding, what, item)
    return values


def _power(stored: np.ndarray, scale: float, encoding: Encoding) -> np.ndarray:
    """Linear power. Zero and less is no measurement: it has no decibels, and sensors mark what they miss so."""
    values = stored if (scale, encoding.offset) == (1, 0) else stored * scale + encoding.offset
    if encoding.decibels:
        values = 10 ** (values / 10)
    return np.where(values > 0, values, values.dtype.type(np.nan))


def _check_reflectance(stored: np.ndarray, encoding: Encoding, dtype: str, what: str) -> None:
    """Raise where floats that nobody gives a scale are no reflectances, or may still be shifted."""
    valid = stored[np.isfinite(stored)]
    if not valid.size:
        return
    if (middle := float(np.median(valid))) > _BRIGHTEST or np.array_equal(valid, np.rint(valid)):
        raise CatalogError(
            f"The values of {what} are no reflectances, and nobody states their scale.",
            found=f"{dtype}, median {middle:g}",
            expected="reflectance, mostly 0 to 1, or raster:scale",
            remedy="scale=0.0001 if they are DN",
        )
    if encoding.offset and not encoding.offset_stated:
        raise CatalogError(
            f"The baseline says that {what} was shifted by 1000 DN, but not whether its floats still are.",
            found=f"{dtype}, median {middle:g}",
            expected="raster:offset of the asset, or boa_offset_applied",
            remedy="offset=0 if reflectances are true, offset=-1000 if 0.1 is still to be subtracted",
        )


def _check_below_zero(values: np.ndarray, encoding: Encoding, what: str, item: str) -> None:
    """Say where an offset is subtracted that may be gone already."""
    valid = values[np.isfinite(values)]
    if not valid.size or np.count_nonzero(valid < 0) <= _BELOW_ZERO_SHARE * valid.size:
        return
    remedy = f"offset={{{item!r}: 0}} if it is gone already, or skip_items=[{item!r}]"
    if (middle := float(np.median(valid))) < _IMPOSSIBLE_DN:
        raise CatalogError(
            f"With its offset of {encoding.offset:g} DN most of {what} lies below zero: it was subtracted before.",
            found=f"a median of {middle:.0f} DN",
            expected="reflectances, 0 to 10000 DN",
            remedy=remedy,
        )
    # Python shows one text once: one warning an item and process, not one a chunk.
    warnings.warn(
        f"More than {_BELOW_ZERO_SHARE:.0%} of the pixels of a band of item {item} fall below zero with its offset of "
        f"{encoding.offset:g} DN. Dark water does; an item that misstates its offset does too: {remedy}.",
        RsEmbedWarning,
        stacklevel=2,
    )
