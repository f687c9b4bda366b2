"""The same scene as many tools write it: its grid is found in every form, and what is no grid is refused everywhere."""

from __future__ import annotations

import re
import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
import shapely
import xarray as xr
from affine import Affine
from pyproj import CRS
from rasterio.control import GroundControlPoint

import xr_rsembed
from tests import fakes
from xr_rsembed import explore
from xr_rsembed.crs import crs_name
from xr_rsembed.errors import GridError, RsEmbedWarning, SceneError
from xr_rsembed.explore.plots import plot_similarity
from xr_rsembed.georef import check_grid, scene_geobox

WEST, NORTH, EPSG = 500_000.0, 5_000_000.0, 32632
UTM = Affine(10, 0, WEST, 0, -10, NORTH)
DEGREES = Affine(1e-4, 0, 9, 0, -1e-4, 45)


def scene(affine=UTM, crs=EPSG, height=240, width=256, dtype="float64") -> xr.DataArray:
    """12 bands whose pixels differ everywhere, labelled at the pixels' centres."""
    rows, columns = np.mgrid[:height, :width]
    pixels = (1000 + 7 * rows + 3 * columns)[None] + 100 * np.arange(12)[:, None, None]
    array = xr.DataArray(
        pixels.astype("uint16"),
        dims=("band", "y", "x"),
        coords={
            "band": list(fakes.S2),
            "y": (affine.f + affine.e * (np.arange(height) + 0.5)).astype(dtype),
            "x": (affine.c + affine.a * (np.arange(width) + 0.5)).astype(dtype),
        },
        attrs={"units": "DN"},
    )
    return array if crs is None else array.rio.write_crs(crs)


def unlinked(array: xr.DataArray) -> xr.DataArray:
    array = array.copy()
    array.encoding, array.attrs = {}, {"units": "DN"}
    return array


def bare(array: xr.DataArray) -> xr.DataArray:
    return unlinked(array.drop_vars("spatial_ref"))


def corners(array: xr.DataArray) -> xr.DataArray:
    return array.assign_coords(y=array.y + 5, x=array.x - 5)


def cf_only(array: xr.DataArray) -> xr.DataArray:
    """A grid mapping of CF attributes alone, without any WKT."""
    attrs = {k: v for k, v in CRS(EPSG).to_cf().items() if k not in ("crs_wkt", "projected_crs_name")}
    return bare(array).assign_coords(utm=((), 0, attrs)).assign_attrs(grid_mapping="utm", units="DN")


def in_degrees(array: xr.DataArray) -> xr.DataArray:
    array = bare(array)
    array.y.attrs["units"], array.x.attrs["units"] = "degrees_north", "degrees_east"
    return array


#: West, north, step and EPSG code of a grid.
METRES, ANGLES = (WEST, NORTH, 10, EPSG), (9, 45, 1e-4, 4326)


def written() -> xr.DataArray:
    """As rioxarray writes it: the transform beside the CRS."""
    return scene().rio.write_transform(UTM)


#: Name: the scene as it comes, and its grid.
FORMS = {
    "rioxarray": (scene, METRES),
    "spatial_ref that nothing names": (lambda: unlinked(scene()), METRES),
    "a grid mapping of another name": (
        lambda: unlinked(scene().rename(spatial_ref="transverse_mercator")),
        METRES,
    ),
    "named in attrs": (
        lambda: unlinked(scene().rename(spatial_ref="crs")).assign_attrs(grid_mapping="crs", units="DN"),
        METRES,
    ),
    "extended grid mapping": (
        lambda: unlinked(scene().rename(spatial_ref="m")).assign_attrs(grid_mapping="m: y x", units="DN"),
        METRES,
    ),
    "CF attributes without WKT": (lambda: cf_only(scene()), METRES),
    "no coords, a transform": (lambda: written().drop_vars(["y", "x"]), METRES),
    "y alone has coords": (lambda: written().drop_vars("x"), METRES),
    "corners beside a transform": (lambda: corners(written()), METRES),
    "corners, cut": (lambda: corners(written())[:, 3:, 5:], (WEST + 50, NORTH - 30, 10, EPSG)),
    "centres, cut": (lambda: written()[:, 3:, 5:], (WEST + 50, NORTH - 30, 10, EPSG)),
    "centres, every other pixel": (lambda: written()[:, ::2, ::2], (WEST - 5, NORTH + 5, 20, EPSG)),
    "means of 2 x 2": (
        lambda: written().coarsen(y=2, x=2).mean().astype("uint16"),
        (WEST, NORTH, 20, EPSG),
    ),
    "stackstac's corners": (
        lambda: corners(bare(scene())).assign_attrs(crs="epsg:32632", transform=UTM),
        METRES,
    ),
    "stackstac's centres": (lambda: bare(scene()).assign_attrs(crs="epsg:32632", transform=UTM), METRES),
    "six numbers in attrs": (
        lambda: bare(scene()).assign_attrs(crs="+init=epsg:32632", transform=tuple(UTM)[:6]),
        METRES,
    ),
    "a coord epsg": (lambda: bare(scene()).assign_coords(epsg=EPSG), METRES),
    "a coord proj:code": (lambda: bare(scene()).assign_coords({"proj:code": f"EPSG:{EPSG}"}), METRES),
    "degrees": (lambda: scene(DEGREES, 4326), ANGLES),
    "degrees in float32": (lambda: scene(DEGREES, 4326, dtype="float32"), ANGLES),
    "degrees once in float32": (
        lambda: scene(DEGREES, 4326, dtype="float32").astype("float64").pipe(_double),
        ANGLES,
    ),
    "degrees by their units alone": (lambda: in_degrees(scene(DEGREES, 4326)), ANGLES),
    "metres in float32": (lambda: scene(dtype="float32"), METRES),
    "metres as integers": (
        lambda: scene(Affine(10, 0, 500_005, 0, -10, 5_000_005), dtype="int64"),
        (WEST + 5, NORTH + 5, 10, EPSG),
    ),
}


def _double(array: xr.DataArray) -> xr.DataArray:
    return array.assign_coords(y=array.y.astype("float64"), x=array.x.astype("float64")).astype("uint16")


@pytest.mark.parametrize("name", FORMS)
def test_a_grid_is_found_in_every_form(name, probe):
    make, (west, north, step, epsg) = FORMS[name]
    array = make()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        emb = xr_rsembed.embed(array, "probe", weights="random")
    assert not [w for w in said if "no CRS" in str(w.message)]
    rough = 5e-2 if "float32" in name or "by their units" in name else 1e-6
    grid = scene_geobox(array)
    np.testing.assert_allclose(grid.affine[:6], (step, 0, west, 0, -step, north), atol=rough * step, rtol=0)
    cells = emb.odc.geobox
    assert (emb.rio.crs.to_epsg(), cells.crs.to_epsg()) == (epsg, epsg)
    np.testing.assert_allclose(
        cells.affine[:6], (16 * step, 0, west, 0, -16 * step, north), atol=rough * step, rtol=0
    )
    twin = xr.DataArray(
        array.values, dims=("band", "y", "x"), coords={"band": list(fakes.S2)}, attrs={"units": "DN"}
    )
    with pytest.warns(RsEmbedWarning, match="no CRS"):
        np.testing.assert_array_equal(emb, xr_rsembed.embed(twin, "probe", weights="random"))


def test_float32_degrees_beside_a_transform_are_exact():
    array = scene(DEGREES, 4326, dtype="float32").rio.write_transform(DEGREES)
    np.testing.assert_allclose(
        scene_geobox(array[:, 3:, 5:]).affine[:6], (1e-4, 0, 9.0005, 0, -1e-4, 44.9997), rtol=1e-12
    )


def test_a_file_opened_without_coords(tmp_path, probe):
    with rasterio.open(tmp_path / "s.tif", "w", driver="GTiff", dtype="uint16", count=12, height=240, width=256,
                       crs=EPSG, transform=UTM) as file:  # fmt: skip
        file.write(scene().values)
    names = {"band": list(fakes.S2)}
    parsed = rioxarray.open_rasterio(tmp_path / "s.tif").assign_coords(names)
    plain = rioxarray.open_rasterio(tmp_path / "s.tif", parse_coordinates=False).assign_coords(names)
    one, other = (xr_rsembed.embed(array, "probe", weights="random") for array in (parsed, plain))
    xr.testing.assert_identical(one.drop_attrs(), other.drop_attrs())
    assert other.rio.bounds() == (WEST, NORTH - 2400, WEST + 2560, NORTH)


@pytest.fixture
def swath(tmp_path):
    """A file with ground control points and no transform."""
    points = [(0, 0, 9, 45), (0, 64, 9.01, 45), (64, 0, 9, 44.99), (64, 64, 9.01, 44.99)]
    with rasterio.open(
        tmp_path / "g.tif", "w", driver="GTiff", dtype="uint16", count=12, height=64, width=64
    ) as file:
        file.write(scene(height=64, width=64).values)
        file.gcps = ([GroundControlPoint(*point) for point in points], rasterio.crs.CRS.from_epsg(4326))
    return rioxarray.open_rasterio(tmp_path / "g.tif").assign_coords(band=list(fakes.S2))


def test_ground_control_points_alone_are_no_grid_and_the_remedy_gives_one(swath, probe):
    with pytest.raises(GridError, match="not geocoded") as caught:
        xr_rsembed.embed(swath, "probe", weights="random")
    assert 'da.rio.reproject("EPSG:32632")' in str(caught.value)
    west, south, east, north = scene_geobox(swath.rio.reproject("EPSG:32632")).geographic_extent.boundingbox
    np.testing.assert_allclose((west, south, east, north), (9, 44.99, 9.01, 45), atol=1e-3)


class TestWithoutAPlace:
    @staticmethod
    def said(array):
        with pytest.warns(RsEmbedWarning) as caught:
            check_grid(array)
        return str(caught[0].message)

    def test_none_at_all(self):
        assert "has no CRS" in self.said(bare(scene()))

    def test_a_grid_mapping_that_was_not_opened(self):
        text = self.said(bare(scene()).assign_attrs(grid_mapping="spatial_ref"))
        assert "'spatial_ref' is not among its coords" in text
        assert 'decode_coords="all"' in text

    def test_a_crs_without_coords(self):
        array = scene().drop_vars(["y", "x"])
        text = self.said(array)
        assert "has no CRS" not in text
        assert "EPSG:32632" in text


def test_a_warning_points_at_the_callers_line_and_comes_again_for_a_second_scene(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        "import xarray as xr, numpy as np\n"
        "from xr_rsembed.georef import check_grid\n"
        "for _ in range(2):\n"
        "    check_grid(xr.DataArray(np.ones((1, 9, 9)), dims=('band', 'y', 'x')))\n"
    )
    with pytest.warns(RsEmbedWarning, match="The scene has no CRS") as given:
        runpy.run_path(str(script))
    assert [(one.filename, one.lineno) for one in given] == [(str(script), 4)] * 2


def test_a_script_beside_the_package_is_a_caller_too():
    script = f"{Path(xr_rsembed.__file__).parent}_own/run.py"
    with pytest.warns(RsEmbedWarning, match="The scene has no CRS") as given:
        exec(compile("check_grid(scene)", script, "exec"), {"check_grid": check_grid, "scene": bare(scene())})
    assert given[0].filename == script


@pytest.mark.parametrize(
    ("crs", "name"),
    [
        (EPSG, "EPSG:32632"),
        (CRS(EPSG).to_wkt(), "EPSG:32632"),
        ("+proj=laea +lat_0=52 +lon_0=10", "+proj=laea +lat_0=52 +lon_0=10"),
        (CRS("ESRI:54009").to_wkt("WKT1_GDAL"), "World_Mollweide"),
    ],
)
def test_a_crs_in_a_message_is_one_short_line(crs, name):
    assert crs_name(CRS(crs)) == name


def test_chunks_that_are_not_dasks_are_named():
    class Array(np.lib.mixins.NDArrayOperatorsMixin):
        """As cubed's: chunked, with numpy's protocols, and no graph of dask's."""

        shape, dtype, ndim, chunks = (1, 9, 9), np.dtype("uint16"), 3, ((1,), (9,), (9,))
        __array_function__ = __array_ufunc__ = None

        def __getitem__(self, key):
            return self

        def rechunk(self, chunks):
            return self

    array = xr.DataArray(Array(), dims=("band", "y", "x"))
    if array.chunks is None:
        pytest.skip("xarray takes no foreign chunks here")
    with pytest.raises(SceneError, match="dask's chunks"):
        check_grid(array)


def test_the_users_filters_hold():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", RsEmbedWarning)
        check_grid(bare(scene()))
    assert not said


# --- a grid that is no longer regular --------------------------------------------------------------------------


def cells(height=30, width=30) -> xr.DataArray:
    values = np.arange(4.0 * height * width, dtype="float32").reshape(4, height, width)
    coords = {"y": NORTH - 80 - 160.0 * np.arange(height), "x": WEST + 80 + 160.0 * np.arange(width)}
    return xr.DataArray(values, dims=("D", "y", "x"), coords=coords, name="embedding").rio.write_crs(EPSG)


GAPS = {
    "dropna": lambda e: e.where(abs(e.x - e.x[15]) > 300).dropna("x", how="all"),
    "concat of odd neighbours": lambda e: xr.concat([e[..., :10], e[..., 13:]], "x"),
    "isel": lambda e: e.isel(y=[0, 1, 2, 5, 6, 9]),
    "a shifted half": lambda e: e.assign_coords(y=e.y + np.where(np.arange(30) < 15, 0.0, 50.0)),
}
BOX = shapely.box(WEST + 800, NORTH - 1600, WEST + 1600, NORTH - 800)
USES = {
    "zonal": lambda e, _: explore.zonal(e, [BOX]),
    "sample": lambda e, _: explore.sample(e, [BOX.centroid]),
    "similarity": lambda e, _: explore.similarity(e, BOX),
    "to_cog": lambda e, folder: e.rsembed.to_cog(folder / "e.tif"),
    "to_geoparquet": lambda e, folder: explore.to_geoparquet(e, folder / "e.parquet"),
    "plot": lambda e, _: plot_similarity(e[0]),
    "align": lambda e, _: xr_rsembed.align({"a": e.rename(D="band")}, like=cells()),
    "change": lambda e, _: xr_rsembed.change(cells()[:, : e.sizes["y"], : e.sizes["x"]], e),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("gap", GAPS)
def test_every_use_of_a_grid_with_gaps_is_refused(gap, use, tmp_path):
    with pytest.raises(GridError, match="not evenly spaced"):
        USES[use](GAPS[gap](cells()), tmp_path)


@pytest.mark.parametrize("gap", GAPS)
def test_the_remedy_for_gaps_gives_a_grid(gap):
    emb = GAPS[gap](cells())
    with pytest.raises(GridError) as caught:
        scene_geobox(emb)
    line = re.split(" makes| resamples", str(caught.value).partition("remedy:")[2])[0].strip()
    mended = eval(line, {"da": emb, "np": np})  # the line as it was printed
    assert abs(scene_geobox(mended).resolution.x) == 160
    if gap != "a shifted half":
        there = mended.sel(y=emb.y, x=emb.x, method="nearest")
        np.testing.assert_array_equal(there, emb)


# --- align ------------------------------------------------------------------------------------------------------


def flat(value, dtype, side=128, step=20.0, west=WEST, **attrs):
    affine = Affine(step, 0, west, 0, -step, NORTH)
    array = scene(affine, height=side, width=side)[:1].astype(dtype)
    array.attrs = attrs
    return array.copy(data=np.full(array.shape, value, dtype))


NODATA = {
    "missing_value": ("float32", -9999.0, {"missing_value": -9999.0}),
    "_FillValue": ("int16", -32768, {"_FillValue": -32768}),
    "nodata": ("uint16", 0, {"nodata": 0}),
    "nan": ("float32", np.nan, {}),
}


@pytest.mark.parametrize("resampling", ["bilinear", "cubic", "average", "lanczos"])
@pytest.mark.parametrize("name", NODATA)
def test_align_never_blends_nodata(name, resampling):
    dtype, nodata, attrs = NODATA[name]
    source = flat(4000, dtype, **attrs)
    source[:, :, 64:] = nodata
    found = xr_rsembed.align({"DEM": source}, like=scene(), resampling=resampling).DEM
    assert found.dtype == dtype
    values = found.values[np.isfinite(found.values)]
    assert set(np.unique(values)) <= {nodata, 4000}
    assert (found.values[0, :, :120] == 4000).all()
    assert not (found.values[0, :, 136:] == 4000).any()


@pytest.mark.parametrize(
    ("dtype", "attrs", "outside"),
    [
        ("float32", {}, np.nan),
        ("int16", {}, np.nan),
        ("int32", {}, np.nan),
        ("int16", {"_FillValue": -1}, -1),
        ("uint16", {"nodata": 0}, 0),
    ],
)
def test_what_a_scene_does_not_reach_is_marked(dtype, attrs, outside):
    found = xr_rsembed.align({"DEM": flat(4000, dtype, west=WEST - 1280, **attrs)}, like=scene()).DEM
    np.testing.assert_array_equal(found[0, :, :126], 4000)
    np.testing.assert_array_equal(found[0, :, 130:], outside)
    if not np.isnan(outside):
        assert found.rio.nodata == outside


def test_integers_that_cover_the_grid_stay_integers():
    assert xr_rsembed.align({"DEM": flat(4000, "int16", side=200)}, like=scene()).DEM.dtype == "int16"


@pytest.mark.parametrize(
    "form", ["no coords, a transform", "corners beside a transform", "stackstac's corners"]
)
def test_align_reads_grids_in_every_form(form):
    array, like = FORMS[form][0](), scene(Affine(20, 0, WEST, 0, -20, NORTH), height=100, width=100)
    expected = xr_rsembed.align({"S2L2A": scene()}, like=like).S2L2A
    np.testing.assert_array_equal(xr_rsembed.align({"S2L2A": array}, like=like).S2L2A, expected)
