"""Products as agencies lay them out, made small: names, metadata fields, packing and JP2 images as in the real ones."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from affine import Affine

from tests import fakes
from tests.servers import loopback
from xr_rsembed import open_scene
from xr_rsembed.bands import S2_L1C, S2_L2A
from xr_rsembed.errors import SceneError
from xr_rsembed.products.safe import _resolution

EPSG, LEFT, TOP, SIDE = 32632, 600_000.0, 5_000_040.0, 360  # pixels at 10 m
TILE = "T32TQQ_20220601T101031"


def stored(band: str, size: int) -> np.ndarray:
    """Numbers of one band with an offset of 1000 in them: nodata, dark water, land."""
    rng = np.random.default_rng(S2_L1C.index(band))
    values = rng.integers(1200, 6000, (size, size)).astype("uint16")
    values[: size // 6] = 0
    values[size // 6 : size // 3] = rng.integers(950, 1001, values[size // 6 : size // 3].shape)
    return values


def expected(band: str, offset: int = -1000) -> np.ndarray:
    factor = _resolution(band) // 10
    values = stored(band, SIDE // factor).repeat(factor, 0).repeat(factor, 1).astype("int64")
    return np.where(values == 0, 0, np.maximum(values + offset, 1)).astype("uint16")


def write(path: Path, values: np.ndarray, driver: str = "GTiff", resolution: float = 10.0, **profile) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    size = {"height": values.shape[-2], "width": values.shape[-1], "count": 1, "dtype": values.dtype}
    lossless = {"QUALITY": "100", "REVERSIBLE": "YES"} if driver == "JP2OpenJPEG" else {}
    transform = Affine(resolution, 0, LEFT, 0, -resolution, TOP)
    with rasterio.open(
        path, "w", driver, crs=EPSG, transform=transform, **size, **lossless, **profile
    ) as target:
        target.write(values, 1)


def metadata(level: str, offset: int | None) -> str:
    user, word = ("Level-2A_User_Product", "BOA") if level == "L2A" else ("Level-1C_User_Product", "RADIO")
    quantification = (
        '<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>'
        '<AOT_QUANTIFICATION_VALUE unit="none">1000.0</AOT_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>'
        if level == "L2A"
        else '<QUANTIFICATION_VALUE unit="none">10000</QUANTIFICATION_VALUE>'
    )
    listed = {"BOA": "BOA_ADD_OFFSET_VALUES_LIST", "RADIO": "Radiometric_Offset_List"}[word]
    offsets = "".join(f'<{word}_ADD_OFFSET band_id="{n}">{offset}</{word}_ADD_OFFSET>' for n in range(13))
    special = "".join(
        f"<Special_Values><SPECIAL_VALUE_TEXT>{text}</SPECIAL_VALUE_TEXT>"
        f"<SPECIAL_VALUE_INDEX>{value}</SPECIAL_VALUE_INDEX></Special_Values>"
        for text, value in (("NODATA", 0), ("SATURATED", 65535))
    )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:{user} xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_{level[0]}evel-{level[1:]}.xsd">
<n1:General_Info><Product_Info><PRODUCT_START_TIME>2022-06-01T10:10:31.024Z</PRODUCT_START_TIME>
<PROCESSING_BASELINE>{"04.00" if offset else "02.14"}</PROCESSING_BASELINE></Product_Info>
<Product_Image_Characteristics>{special}{quantification}
{f"<{listed}>{offsets}</{listed}>" if offset else ""}
</Product_Image_Characteristics></n1:General_Info></n1:{user}>"""


def safe(folder: Path, level: str, offset: int | None = -1000) -> Path:
    root = folder / f"S2A_MSI{level}_20220601T101031_N0400_R022_{TILE[:6]}_20220601T163000.SAFE"
    images = root / "GRANULE" / f"{level}_{TILE[:6]}_A036260_20220601T101558" / "IMG_DATA"
    for band in S2_L2A if level == "L2A" else S2_L1C:
        resolution = _resolution(band)
        name = f"{TILE}_B{band[1:].zfill(2)}"
        size = SIDE * 10 // resolution
        if level == "L1C":
            write(images / f"{name}.jp2", stored(band, size), "JP2OpenJPEG", resolution)
            continue
        for at in (one for one in (10, 20, 60) if one >= resolution):  # coarser copies come with the product
            values = (
                stored(band, size)[:: at // resolution, :: at // resolution]
                if at > resolution
                else stored(band, size)
            )
            write(images / f"R{at}m" / f"{name}_{at}m.jp2", values + 7 * (at > resolution), "JP2OpenJPEG", at)
    (root / f"MTD_MSI{level}.xml").write_text(metadata(level, offset))
    return root


@pytest.mark.parametrize("level", ["L2A", "L1C"])
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_safe(tmp_path, level, packed):
    path = safe(tmp_path, level)
    if packed:
        path = Path(shutil.make_archive(str(tmp_path / "product"), "zip", tmp_path, path.name))
        shutil.rmtree(tmp_path / next(tmp_path.glob("*.SAFE")).name)
    scene = open_scene(path)
    bands = S2_L2A if level == "L2A" else S2_L1C
    assert scene.chunks is not None
    assert scene.band.values.tolist() == list(bands)
    assert (scene.dtype, scene.rio.crs.to_epsg(), scene.attrs["modality"]) == (np.uint16, EPSG, f"S2{level}")
    assert scene.rio.transform() == Affine(10, 0, LEFT, 0, -10, TOP)
    for band in bands:
        np.testing.assert_array_equal(scene.sel(band=band).values, expected(band), err_msg=band)


def test_safe_of_an_old_baseline_has_no_offset(tmp_path):
    scene = open_scene(safe(tmp_path, "L2A", offset=None))
    np.testing.assert_array_equal(scene.sel(band="B5").values, expected("B5", 0))


def test_safe_embeds(tmp_path):
    fakes.register()
    embedding = open_scene(safe(tmp_path, "L2A")).rsembed.embed("probe", weights="random")
    assert embedding.shape == (fakes.EMBED_DIM, 23, 23)
    assert embedding.rio.crs.to_epsg() == EPSG
    assert np.isnan(embedding.values[:, :3]).all()


def test_an_incomplete_safe_names_what_it_lacks(tmp_path):
    path = safe(tmp_path, "L2A")
    next(path.rglob("*B8A_20m.jp2")).unlink()
    with pytest.raises(SceneError, match="B8A"):
        open_scene(path)
    next(path.glob("MTD*.xml")).unlink()
    with pytest.raises(SceneError, match=r"MTD_MSIL2A\.xml"):
        open_scene(path)


def test_eopf(tmp_path):
    path = tmp_path / "S02MSIL2A_20220601T101031_0000_A022_T32TQQ.zarr"
    root = zarr.open_group(path, mode="w")
    root.attrs["stac_discovery"] = {
        "properties": {
            "product:type": "S02MSIL2A",
            "datetime": "2022-06-01T10:10:31Z",
            "proj:code": f"EPSG:{EPSG}",
        }
    }
    for resolution in (10, 20, 60):
        size = SIDE * 10 // resolution
        coords = {
            "y": TOP - resolution * (np.arange(size) + 0.5),
            "x": LEFT + resolution * (np.arange(size) + 0.5),
        }
        bands = [band for band in S2_L2A if _resolution(band) <= resolution]
        packing = {"scale_factor": 1e-4, "add_offset": -0.1, "_FillValue": 0}
        group = xr.Dataset(
            {
                f"b{band[1:].zfill(2).lower()}": (
                    ("y", "x"),
                    stored(band, size) + np.uint16(7 * (_resolution(band) < resolution)),
                    packing,
                )
                for band in bands
            },
            coords,
        )
        group.to_zarr(path, group=f"measurements/reflectance/r{resolution}m", mode="a", consolidated=False)
    scene = open_scene(path)
    assert scene.band.values.tolist() == list(S2_L2A)
    assert scene.rio.crs.to_epsg() == EPSG
    for band in S2_L2A:
        np.testing.assert_array_equal(scene.sel(band=band).values, expected(band), err_msg=band)


def test_hls(tmp_path):
    for kind, names in (("S30", ["B02", "B8A", "B10"]), ("L30", ["B02", "B05", "B10"])):
        folder = tmp_path / kind
        for name in [*names, "Fmask"]:
            values = np.full((40, 40), 1500, dtype="int16")
            values[0], values[1] = -9999, -30
            path = folder / f"HLS.{kind}.T32TQQ.2022152T101031.v2.0.{name}.tif"
            write(path, values, resolution=30.0, nodata=-9999)
            with rasterio.open(path, "r+") as target:
                target.scales = [0.0001]
        scene = open_scene(folder)
        assert scene.band.values.tolist() == ["B2", "B8A"]
        assert [int(scene[1, row, 0]) for row in range(3)] == [0, 1, 1500]
        assert scene.rio.resolution() == (30.0, -30.0)


def test_a_folder_and_a_list_of_bands(tmp_path):
    for band in S2_L2A:
        resolution = _resolution(band)
        values = stored(band, SIDE * 10 // resolution)
        write(tmp_path / f"B{band[1:].zfill(2)}.tif", values, resolution=resolution, nodata=0)
    write(tmp_path / "preview.tif", np.zeros((4, 4), "uint8"))
    scene = open_scene(tmp_path)
    assert scene.band.values.tolist() == list(S2_L2A)
    np.testing.assert_array_equal(scene.sel(band="B9").values, expected("B9", 0).clip(0))
    assert scene.attrs["_FillValue"] == 0
    listed = open_scene([tmp_path / "B04.tif", tmp_path / "B03.tif"])
    assert listed.band.values.tolist() == ["B3", "B4"]
    with pytest.raises(SceneError, match="Two files hold B4"):
        open_scene([tmp_path / "B04.tif", shutil.copy(tmp_path / "B04.tif", tmp_path / "red.tif")])
    with pytest.raises(SceneError, match="which bands"):
        open_scene([tmp_path / "preview.tif"])
    (tmp_path / "notes").mkdir()
    with pytest.raises(SceneError):
        open_scene(tmp_path / "notes")


def test_a_variable_for_each_band(tmp_path):
    whole = {band: (("y", "x"), expected(band)) for band in S2_L2A}
    coords = {"y": TOP - 5 - 10 * np.arange(SIDE), "x": LEFT + 5 + 10 * np.arange(SIDE)}
    dataset = xr.Dataset({**whole, "quality": (("y", "x"), np.zeros((SIDE, SIDE)))}, coords).rio.write_crs(
        EPSG
    )
    dataset.to_netcdf(tmp_path / "bands.nc", engine="h5netcdf")
    for scene in (open_scene(dataset), open_scene(tmp_path / "bands.nc")):
        assert scene.band.values.tolist() == list(S2_L2A)
        np.testing.assert_array_equal(scene.sel(band="B11").values, expected("B11"))
        assert scene.rio.crs.to_epsg() == EPSG


def test_a_remote_cog_is_read_by_few_requests(tmp_path):
    write(tmp_path / "scene.tif", stored("B2", SIDE), tiled=True, blockxsize=128, blockysize=128)
    server = loopback.Loopback(tmp_path)
    try:
        scene = open_scene(f"{server.url}/scene.tif")
        np.testing.assert_array_equal(scene[0].values, stored("B2", SIDE))
        asked = [request.path for request in server.log]
        assert set(asked) == {"/scene.tif"}, "nothing is searched for"
    finally:
        server.stop()
