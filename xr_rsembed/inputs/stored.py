"""What an array says beside its pixels, by the CF and GDAL rules: nodata, and how numbers were packed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.errors import SceneError

__all__ = [
    "NODATA_ATTRS",
    "PACKING_ATTRS",
    "Packing",
    "Stored",
    "nodata_attr",
    "nodata_of",
    "packing_of",
    "read_stored",
    "without_nodata",
]

NODATA_ATTRS = ("_FillValue", "missing_value", "fill_value", "nodata", "nodatavals")
PACKING_ATTRS = ("scale_factor", "add_offset", "scales", "offsets")


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

    ``zero_was_nodata`` also where xarray has decoded the pixels and nodata is NaN by now.
    """

    nodata: tuple[float, ...]
    packing: Packing
    zero_was_nodata: bool


def read_stored(scene: xr.DataArray) -> tuple[xr.DataArray, Stored]:
    """What a scene says, and the scene, of which all bands then say the same.

    Raises
    ------
    SceneError
        If a number is none, or cannot be told to belong to a band.
    """
    zero = 0.0 in (*nodata_of(scene), *_numbers(scene.encoding, "_FillValue"))
    alike = _alike_bands(scene)
    return alike, Stored(nodata_of(alike), packing_of(alike), zero)


def nodata_of(scene: xr.DataArray) -> tuple[float, ...]:
    """Every value that marks an invalid pixel, besides NaN.

    Looked for wherever rioxarray looks: attrs ``_FillValue``, ``missing_value``, ``fill_value``, ``nodata`` and
    ``nodatavals``, the encoding, and what ``da.rio.set_nodata`` left. Values that a file packed, and that xarray has
    decoded, are NaN already: there the encoding's number marks nothing.

    Raises
    ------
    SceneError
        If one of them is no number.

    Examples
    --------
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


def nodata_attr(values: tuple[float, ...]) -> dict[str, Any]:
    """Those values as attrs."""
    return {"_FillValue": values[0] if len(values) == 1 else list(values)} if values else {}


def packing_of(scene: xr.DataArray) -> Packing:
    """How the pixels are packed, the same for all bands (see :func:`read_stored`).

    Raises
    ------
    SceneError
        If a scale or an offset is no number, or bands differ.
    """
    for where, decoded in ((scene.attrs, False), (scene.encoding, True)):
        scale, offset = _packing_numbers(where)
        if len(set(scale)) > 1 or len(set(offset)) > 1:
            raise _per_band(scene)
        packing = Packing(scale[0], offset[0], decoded and scene.dtype.kind == "f")
        if packing:
            return packing
    return Packing()


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
    valid = ~scene.isin(list(others))
    if mixed_nodata:
        valid &= scene != along(nodata)
    values = scene.where(valid).astype("float32") * along(scale) + along(offset)
    values.attrs = _without(scene.attrs, *NODATA_ATTRS, *PACKING_ATTRS)
    if len(set(scale)) > 1 or len(set(offset)) > 1 or scale[0] != 1.0:
        values.encoding = {"scale_factor": max(scale), "add_offset": min(offset)}
    return values


def without_nodata(scene: xr.DataArray) -> xr.DataArray:
    """The scene in floats with NaN where a pixel is nodata, still packed where it is; unchanged where none is stated.

    Examples
    --------
    >>> without_nodata(xr.DataArray([1, 0], attrs={"_FillValue": 0})).values
    array([ 1., nan])
    """
    scene = _alike_bands(scene)
    nodata = nodata_of(scene)
    if not nodata:
        return scene
    masked = scene.where(~scene.isin(list(nodata)))
    return masked.assign_attrs(_without(scene.attrs, *NODATA_ATTRS)).drop_encoding()


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
        numbers = tuple(float(one) for one in np.ravel(value))
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
