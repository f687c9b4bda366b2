"""Sentinel-2 SAFE products, L1C and L2A, in a folder or a zip, by their own metadata."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import xarray as xr

from xr_rsembed.bands import S2_L1C, S2_L2A
from xr_rsembed.errors import SceneError
from xr_rsembed.gdal import open_raster
from xr_rsembed.products.harmonize import CHUNK, harmonize, join_bands

#: By the ``band_id`` of the metadata.
_BANDS = S2_L1C
_NATIVE = {10: ("B2", "B3", "B4", "B8"), 60: ("B1", "B9", "B10")}  # the others: 20 m
#: Where the metadata says what divides numbers into reflectance; Level-2A of before 2017 calls it otherwise.
_QUANTIFICATION = {
    "L1C": ("QUANTIFICATION_VALUE",),
    "L2A": ("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"),
}
_IMAGE = re.compile(r"_(B\d[0-9A])(?:_(\d\d)m)?\.jp2$")


@dataclass(frozen=True)
class Root:
    """Where a product lies: as a folder, as GDAL opens it, and its files by names relative to it."""

    name: str
    folder: Path | zipfile.Path
    prefix: str
    files: tuple[str, ...]


def find_root(path: str) -> Root | None:
    """The product at a path: its folder, its zip, or its ``MTD_MSIL2A.xml``; None where there is none."""
    if os.path.basename(path) in ("MTD_MSIL1C.xml", "MTD_MSIL2A.xml"):
        path = os.path.dirname(path) or "."
    if os.path.isdir(path):
        if not any(os.path.exists(os.path.join(path, f"MTD_MSI{level}.xml")) for level in ("L1C", "L2A")):
            if path.rstrip("/").upper().endswith(".SAFE"):
                raise _incomplete(path, "no MTD_MSIL1C.xml or MTD_MSIL2A.xml")
            return None
        root = Path(path)
        files = tuple(sorted(one.relative_to(root).as_posix() for one in root.rglob("*") if one.is_file()))
        return Root(root.resolve().name, root, str(root), files)
    if path.lower().endswith(".zip") and os.path.isfile(path) and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        tops = sorted(
            {name.partition("/")[0] for name in names if re.search(r"\.SAFE/MTD_MSIL..\.xml$", name)}
        )
        if tops:
            inside = tuple(
                name.partition("/")[2] for name in names if name.startswith(f"{tops[0]}/") and name[-1] != "/"
            )
            return Root(tops[0], zipfile.Path(path, f"{tops[0]}/"), f"/vsizip/{path}/{tops[0]}", inside)
    return None


def open_safe(root: Root) -> xr.DataArray:
    """A product as a scene: every band at 10 m, offset and quantification of its metadata applied."""
    level = next(level for level in ("L1C", "L2A") if f"MTD_MSI{level}.xml" in root.files)
    tags = [(node.tag.rpartition("}")[2], node) for node in _metadata(root, f"MTD_MSI{level}.xml").iter()]
    text = {tag: (node.text or "").strip() for tag, node in reversed(tags)}
    quantification = next((float(text[tag]) for tag in _QUANTIFICATION[level] if text.get(tag)), 0.0)
    if not quantification:
        raise _incomplete(root.name, f"no {_QUANTIFICATION[level][0]} in its metadata")
    offset = "RADIO_ADD_OFFSET" if level == "L1C" else "BOA_ADD_OFFSET"
    offsets = {
        _BANDS[int(node.attrib["band_id"])]: float(node.text or 0) for tag, node in tags if tag == offset
    }
    special = [(node.text or "").strip() for tag, node in tags if tag.startswith("SPECIAL_VALUE_")]
    nodata = dict(zip(special[::2], special[1::2], strict=False)).get("NODATA", "0")
    images, wanted = _images(root), S2_L1C if level == "L1C" else S2_L2A
    if missing := [band for band in wanted if band not in images]:
        raise _incomplete(root.name, f"no image of {', '.join(missing)}")
    arrays = {}
    for band in wanted:
        side = CHUNK * 10 // _resolution(band)
        stored = open_raster(f"{root.prefix}/{images[band]}", side).squeeze("band", drop=True)
        add = offsets.get(band, 0.0) / quantification
        arrays[band] = harmonize(stored, float(nodata), 1 / quantification, add)
    return join_bands(
        arrays,
        modality=f"S2{level}",
        product=root.name,
        dates=[text.get("PRODUCT_START_TIME", "")[:10]],
        processing_baseline=text.get("PROCESSING_BASELINE", ""),
    )


def _metadata(root: Root, name: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(root.folder.joinpath(name).read_bytes())
    except ElementTree.ParseError as error:
        raise _incomplete(root.name, f"{name} is no XML: {error}") from error


def _images(root: Root) -> dict[str, str]:
    """The image of each band, at the band's own resolution."""
    granules = sorted({name.split("/")[1] for name in root.files if name.startswith("GRANULE/")})
    if len(granules) > 1:
        raise SceneError(
            "The product holds several granules.",
            found=", ".join(granules),
            expected="one granule, as products since December 2016 have",
            remedy=f"open_scene(sorted(glob('{root.name}/GRANULE/{granules[0]}/IMG_DATA/*.jp2'))) opens one",
        )
    found: dict[str, str] = {}
    for name in root.files:
        match = _IMAGE.search(name)
        if match is None or "/IMG_DATA/" not in name:
            continue
        band = re.sub(r"^B0", "B", match[1])
        if match[2] is None or int(match[2]) == _resolution(band):
            found[band] = name
    return found


def _resolution(band: str) -> int:
    return next((resolution for resolution, bands in _NATIVE.items() if band in bands), 20)


def _incomplete(name: str, found: str) -> SceneError:
    return SceneError(
        "The SAFE product is not complete.",
        found=f"{name}: {found}",
        expected="the product as it was delivered",
        remedy="download or unpack it again",
    )
