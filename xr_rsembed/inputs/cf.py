"""What an array says beside its pixels, by the CF and GDAL rules: nodata, valid range, and how numbers were packed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import SceneError

NODATA_ATTRS = ("_FillValue", "missing_value", "fill_value", "nodata", "nodatavals")
PACKING_ATTRS = ("scale_factor", "add_offset", "scales", "offsets")
RANGE_ATTRS = ("valid_range", "valid_min", "valid_max")


@dataclass(frozen=True)
class Packing:
    """``value = raw * scale + offset``.

    ``decoded`` is true where the array holds the values already, and its encoding tells how a file packs them.
    """

    scale: float = 1.0
    offset: float = 0.0
    decoded: bool = False

    def __bool__(self) -> bool:
        return (self.scale, self.offset) != (1.0, 0.0)


@dataclass(frozen=True)
class Stored:
    """What an array says beside its pixels.

    ``nodata_stated`` also where what is stated is NaN, ``zero_was_nodata`` also where xarray has made NaN of it.
    ``valid_range`` is that of the pixels as they are now.
    """

    nodata: tuple[float, ...]
    nodata_stated: bool
    zero_was_nodata: bool
    packing: Packing
    valid_range: tuple[float, float] | None


def read_stored(scene: xr.DataArray) -> tuple[xr.DataArray, Stored]:
    """What a scene says, and the scene, of which all bands then say the same."""
    scene = with_stated_sign(scene)
    nodata = nodata_of(scene)
    # NaN, and numbers that integers cannot hold, mark nothing among them.
    named = scene.dtype.kind == "f" and any({*at} & {*NODATA_ATTRS} for at in (scene.attrs, scene.encoding))
    zero = 0.0 in (*nodata, *_numbers(scene.encoding, "_FillValue"))
    valid_range = _valid_range(scene)
    alike = _alike_bands(scene)
    return alike, Stored(
        nodata_of(alike),
        named or held_values(nodata, scene.dtype).size > 0,
        zero,
        packing_of(alike),
        valid_range,
    )


def with_stated_sign(scene: xr.DataArray) -> xr.DataArray:
    """Integers as ``_Unsigned`` says that they are meant, their nodata too: NetCDF-3 has no unsigned ones.

    >>> with_stated_sign(xr.DataArray(np.array([-1, 5], "int16"), attrs={"_Unsigned": "true"})).values
    array([65535,     5], dtype=uint16)
    """
    sign = str(scene.attrs.get("_Unsigned")).lower()
    kind = {("i", "true"): "u", ("u", "false"): "i"}.get((scene.dtype.kind, sign))
    if kind is None:
        return scene
    dtype = np.dtype(f"{kind}{scene.dtype.itemsize}")

    def meant(where: Mapping[Any, Any]) -> dict[Any, Any]:
        numbers = {name: _numbers(where, name) for name in (*NODATA_ATTRS, *RANGE_ATTRS)}
        whole = {name: own for name, own in numbers.items() if own and np.isfinite(own).all()}
        signed = {name: np.array(own).astype("int64").astype(dtype).tolist() for name, own in whole.items()}
        return {**_without(where, "_Unsigned"), **signed}

    converted = scene.astype(dtype)
    converted.attrs, converted.encoding = meant(scene.attrs), meant(scene.encoding)
    return converted


def nodata_of(scene: xr.DataArray) -> tuple[float, ...]:
    """Every value that marks an invalid pixel, besides NaN.

    Looked for wherever rioxarray looks: attrs ``_FillValue``, ``missing_value``, ``fill_value``, ``nodata`` and
    ``nodatavals``, the encoding, and what ``da.rio.set_nodata`` left. Values that a file packed, and that xarray has
    decoded, are NaN already: there the encoding's number marks nothing.

    >>> nodata_of(xr.DataArray([1, 0], attrs={"missing_value": 0, "_FillValue": -9999}))
    (-9999.0, 0.0)
    """
    found: set[float] = set()
    for name in NODATA_ATTRS:
        found.update(_numbers(scene.attrs, name))
    decoded = scene.dtype.kind == "f" and _packing_numbers(scene.encoding) != ((1.0,), (0.0,))
    if not decoded:
        found.update(_numbers(scene.encoding, "_FillValue"), _numbers(scene.encoding, "missing_value"))
    found.update(_set_by_rioxarray(scene))
    return tuple(sorted(value for value in found if not np.isnan(value)))


def held_values(values: Iterable[float], dtype: np.dtype) -> np.ndarray:
    """The values as pixels hold them; one that they cannot hold marks nothing and is left out.

    >>> held_values((0.0, -9999.0), np.dtype("uint16")), held_values((1e20,), np.dtype("float32"))
    (array([0], dtype=uint16), array([1.e+20], dtype=float32))
    """
    wanted = np.array([*values], "float64")
    with np.errstate(invalid="ignore", over="ignore"):
        held = wanted.astype(dtype)
    return held if dtype.kind == "f" else held[held == wanted]


def nodata_attr(values: tuple[float, ...]) -> dict[str, Any]:
    """Those values as attrs."""
    return {"_FillValue": values[0] if len(values) == 1 else list(values)} if values else {}


def packing_of(scene: xr.DataArray) -> Packing:
    """How the pixels are packed, the same for all bands (see :func:`read_stored`)."""
    for where, decoded in ((scene.attrs, False), (scene.encoding, True)):
        scale, offset = _packing_numbers(where)
        if len(set(scale)) > 1 or len(set(offset)) > 1:
            raise _per_band(scene)
        packing = Packing(scale[0], offset[0], decoded and scene.dtype.kind == "f")
        if packing:
            return packing
    return Packing()


def _valid_range(scene: xr.DataArray) -> tuple[float, float] | None:
    """The least and the greatest valid number, as the pixels are now; None where nothing is stated.

    A file states packed numbers (CF 2.5.1), also of pixels that xarray has decoded since; fractions beside packed
    integers are values.
    """
    stated = _numbers(scene.attrs, "valid_range") or (
        *(_numbers(scene.attrs, "valid_min") or (-np.inf,)),
        *(_numbers(scene.attrs, "valid_max") or (np.inf,)),
    )
    if len(stated) != 2 or stated == (-np.inf, np.inf) or np.isnan(stated).any():
        return None
    scale, offset = _packing_numbers(scene.attrs)
    packing = packing_of(scene) if len({*scale}) == len({*offset}) == 1 else Packing()
    values = any(number % 1 for number in stated if np.isfinite(number)) or stated == (0.0, 1.0)
    if packing.decoded and not values:
        stated = tuple(number * packing.scale + packing.offset for number in stated)
    elif packing and not packing.decoded and values:
        stated = tuple((number - packing.offset) / packing.scale for number in stated)
    rounding = 1e-6 * max(abs(number) for number in stated if np.isfinite(number))
    return min(stated) - rounding, max(stated) + rounding


def _alike_bands(scene: xr.DataArray) -> xr.DataArray:
    """The scene with one packing and one set of nodata values for all of its bands.

    Where they differ from band to band, as GDAL allows, pixels are unpacked and masked here, as float32.
    """
    scale, offset = _packing_numbers(scene.attrs)
    nodata = _numbers(scene.attrs, "nodatavals")
    mixed_nodata = len({str(one) for one in nodata}) > 1
    if len(set(scale)) == len(set(offset)) == 1 and not mixed_nodata:
        return scene
    number = scene.sizes.get("band", 1)
    index = _file_bands(scene, max(len(scale), len(offset), len(nodata) if mixed_nodata else 1))

    def along(values: tuple[float, ...]) -> xr.DataArray:
        own = values * number if len(values) == 1 else tuple(values[one] for one in index)
        return xr.DataArray(np.asarray(own, dtype="float32"), dims="band")

    others = nodata_of(scene.drop_attrs(deep=False).assign_attrs(_without(scene.attrs, "nodatavals")))
    valid = ~scene.isin(held_values(others, scene.dtype))
    if mixed_nodata:
        valid &= scene != along(nodata)
    values = scene.where(valid).astype("float32") * along(scale) + along(offset)
    values.attrs = _without(scene.attrs, *NODATA_ATTRS, *PACKING_ATTRS)
    if len(set(scale)) > 1 or len(set(offset)) > 1 or scale[0] != 1.0:
        values.encoding = {"scale_factor": max(scale), "add_offset": min(offset)}
    return values


def _without(attrs: Mapping[Any, Any], *names: str) -> dict[Any, Any]:
    return {name: value for name, value in attrs.items() if name not in names}


def _packing_numbers(where: Mapping[Any, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    scale = _numbers(where, "scale_factor") or _numbers(where, "scales") or (1.0,)
    offset = _numbers(where, "add_offset") or _numbers(where, "offsets") or (0.0,)
    if not np.isfinite([*scale, *offset]).all() or 0.0 in scale:
        raise SceneError(
            "The scene's packing cannot be used.",
            found=f"scale_factor {scale}, add_offset {offset}",
            expected="finite numbers, and no scale of 0",
            remedy='da.attrs.pop("scale_factor", None); da.attrs.pop("add_offset", None)',
        )
    return scale, offset


def _numbers(where: Mapping[Any, Any], name: str) -> tuple[float, ...]:
    """One number, or one a band; none where nothing is said."""
    value = where.get(name)
    if value is None:
        return ()
    try:
        # GDAL's metadata are text, such as "-2000, 16000".
        parts = re.split(r"[\s,;]+", value.strip(" []()")) if isinstance(value, str) else np.ravel(value)
        numbers = tuple(float(one) for one in parts)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers:
        raise SceneError(
            f"The attr {name} is no number.",
            found=repr(value),
            expected="a number, such as 0",
            remedy=f'da.attrs.pop("{name}", None); da.encoding.pop("{name}", None)',
        )
    return numbers


def _set_by_rioxarray(scene: xr.DataArray) -> tuple[float, ...]:
    """What ``da.rio.set_nodata`` left on this very object: it stands in neither attrs nor encoding."""
    if "rioxarray" not in sys.modules or scene.rio.encoded_nodata is not None:
        return ()
    try:
        value = scene.rio.nodata
    except (TypeError, ValueError, OverflowError, OSError):
        return ()  # a number that the dtype cannot hold marks nothing, and the attrs were read above
    return () if value is None else tuple(float(one) for one in np.ravel(value))


def _file_bands(scene: xr.DataArray, number: int) -> list[int]:
    """Positions of the scene's bands in its file, by the integer labels that rioxarray gives them."""
    labels = np.atleast_1d(scene["band"].values) if "band" in scene.coords else np.arange(0)
    if labels.dtype.kind not in "iu" or not labels.size or labels.min() < 1 or labels.max() > number:
        raise _per_band(scene)
    return [int(label) - 1 for label in labels]


def _per_band(scene: xr.DataArray) -> SceneError:
    return SceneError(
        "Scale, offset or nodata differ from band to band, and nothing says which belongs to which.",
        found=", ".join(name for name in (*PACKING_ATTRS, *NODATA_ATTRS) if name in scene.attrs),
        expected="one value for all bands, or the integer labels that index them",
        remedy="rioxarray.open_rasterio(path, mask_and_scale=True)",
    )
