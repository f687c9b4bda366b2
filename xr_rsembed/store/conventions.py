"""Attributes that let the field's other tools read a stored embedding: ``geoemb:``, ``proj:`` and ``spatial:``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import xarray as xr

from xr_rsembed.errors import GridError, OptionError
from xr_rsembed.georef import scene_geobox

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_GEOEMB = {
    "name": "geoemb:",
    "uuid": "61c12cc5-0e28-4056-999a-480cf3fb7e4c",
    "schema_url": "https://raw.githubusercontent.com/geo-embeddings/embeddings-zarr-convention/refs/tags/v1/schema.json",
    "spec_url": "https://github.com/geo-embeddings/embeddings-zarr-convention/blob/v1/README.md",
}
# The versions of these two name themselves differently; the uuid is what stays.
_PROJ = {"uuid": "f17cb550-5864-4468-aeb7-f3180cfb622f"}
_SPATIAL = {"uuid": "689b58e2-cf7b-45e0-9fff-9cfc0883d6b4"}

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s\"'<>]+")


def group_attrs(
    emb: xr.DataArray,
    *,
    dtype: str,
    model: str | None = None,
    source_data: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Attributes of the Zarr group that holds an embedding, as JSON types.

    ``proj:`` and ``spatial:`` are there where it has a CRS and a regular grid; ``model`` and ``source_data`` are URLs
    as :func:`model_url` and :func:`source_urls` take them.

    Examples
    --------
    >>> emb = xr.DataArray(np.zeros((8, 2, 3)), dims=("D", "y", "x"), attrs={"patch_size": 16})
    >>> attrs = group_attrs(emb, dtype="float32", model="https://example.org/model")
    >>> attrs["geoemb:type"], attrs["geoemb:dimensions"], attrs["geoemb:chip_layout"]["chip_size"]
    ('chip', 8, [16, 16])
    """
    layout = chip_layout(emb.attrs)
    attrs: dict[str, Any] = {
        "zarr_conventions": [_GEOEMB],
        "geoemb:type": "chip" if layout else "pixel",
        "geoemb:dimensions": emb.sizes.get("D", 1),
        "geoemb:model": model_url(emb.attrs, model),
        "geoemb:source_data": source_urls(emb.attrs, source_data),
        "geoemb:data_type": dtype,
    }
    if layout:
        attrs["geoemb:chip_layout"] = layout
    if "xr_rsembed_version" in emb.attrs:
        attrs["geoemb:build_version"] = f"xr-rsembed {emb.attrs['xr_rsembed_version']}"
    if (size := pixel_size(emb)) is not None:
        attrs["geoemb:gsd"] = size
    if (geobox := _geobox(emb)) is None:
        return attrs
    attrs["zarr_conventions"].append(_SPATIAL)
    attrs |= {
        "spatial:dimensions": ["y", "x"],
        "spatial:bbox": [float(v) for v in geobox.boundingbox.bbox],
        "spatial:transform_type": "affine",
        "spatial:transform": [float(v) for v in list(geobox.affine)[:6]],
        "spatial:shape": [int(n) for n in geobox.shape],
        "spatial:registration": "pixel",
    }
    if geobox.crs is not None:
        attrs["zarr_conventions"].append(_PROJ)
        epsg = geobox.crs.to_epsg()
        attrs |= {"proj:code": f"EPSG:{epsg}"} if epsg else {"proj:wkt2": geobox.crs.to_wkt()}
    return attrs


def _geobox(emb: xr.DataArray) -> GeoBox | None:
    """The grid of cells; None without one, and for one with gaps, whose coords alone are true."""
    if not {"y", "x"} <= set(emb.dims) or not emb.size:
        return None
    try:
        return scene_geobox(emb)
    except GridError:
        return None


def chip_layout(attrs: Mapping[str, Any]) -> dict[str, Any] | None:
    """How the scene was divided: by patches, or by tiles for one vector a tile; None where attrs do not say."""
    tiles = attrs.get("output") == "tiles"
    if (size := attrs.get("tile_size" if tiles else "patch_size")) is None:
        return None
    stride = int(size) - int(attrs.get("overlap", 0)) if tiles else int(size) // int(attrs.get("density", 1))
    return {"layout_type": "regular_grid", "chip_size": [int(size)] * 2, "stride": [stride] * 2}


def pixel_size(emb: xr.DataArray) -> float | None:
    """Ground sample distance of the scene behind an embedding, in metres; None without a grid in metres."""
    geobox = _geobox(emb)
    if geobox is None or geobox.crs is None or geobox.crs.geographic or geobox.crs.units[0] != "metre":
        return None
    layout = chip_layout(emb.attrs)
    return abs(float(geobox.resolution.x)) / (layout["stride"][1] if layout else 1)


def model_url(attrs: Mapping[str, Any], given: str | None = None) -> str:
    """URL of the model: the one given, the attr ``model_url``, the hub page of the weights, else a URN that names it.

    Examples
    --------
    >>> model_url({"weights": "MBZUAI/TerraFM@main/TerraFM-B.pth"})
    'https://huggingface.co/MBZUAI/TerraFM'
    >>> model_url({"weights": "random (seed 0)", "model_key": "terrafm_b"})
    'urn:xr-rsembed:model:terrafm_b'
    """
    url = given or attrs.get("model_url")
    if url:
        return without_credentials(_absolute(str(url), "model_url"))
    hub = re.match(r"^([\w.-]+/[\w.-]+)@", str(attrs.get("weights", "")))
    if hub:
        return f"https://huggingface.co/{hub[1]}"
    return f"urn:xr-rsembed:model:{_word(attrs.get('model_key') or attrs.get('model') or 'unknown')}"


def source_urls(attrs: Mapping[str, Any], given: Sequence[str] | None = None) -> list[str]:
    """URLs of the source data: those given, the attr ``source_data``, else a URN that names the modality."""
    found = given or attrs.get("source_data")
    if found:
        urls = [found] if isinstance(found, str) else [str(url) for url in found]
        return [without_credentials(_absolute(url, "source_data")) for url in urls]
    modality = attrs.get("modality") or "unknown"
    names = [modality] if isinstance(modality, str) else list(modality)
    return [f"urn:xr-rsembed:modality:{_word(name)}" for name in names]


def without_credentials(url: str) -> str:
    """A URL without user, password, query and fragment, where signatures and tokens stand.

    Examples
    --------
    >>> without_credentials("https://me:secret@example.org/a.tif?sig=abc")
    'https://example.org/a.tif'
    """
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def scrubbed(value: Any) -> Any:
    """A value with every URL in it, at any depth, stripped by :func:`without_credentials`.

    Examples
    --------
    >>> scrubbed({"scenes": ["from https://example.org/a.tif?sig=abc", 3]})
    {'scenes': ['from https://example.org/a.tif', 3]}
    """
    if isinstance(value, str):
        return _URL.sub(lambda found: without_credentials(found[0]), value)
    if isinstance(value, Mapping):
        return {key: scrubbed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """A value as JSON knows it: numpy scalars and arrays become numbers and lists, tuples become lists.

    Examples
    --------
    >>> plain({"a": np.float32(0.5), "b": (1, np.int64(2))})
    {'a': 0.5, 'b': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _absolute(url: str, what: str) -> str:
    if not urlsplit(url).scheme:
        raise OptionError(f"{what} must be a URL.", found=url, expected="such as https://example.org/model")
    return url


def _word(name: Any) -> str:
    return re.sub(r"[^\w.-]+", "-", str(name)).strip("-")
