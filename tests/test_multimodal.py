"""Several modalities in one forward, over a cheap model: against a plain-numpy reference, and bad input."""

from __future__ import annotations

import warnings

import dask
import numpy as np
import pytest
import rioxarray  # noqa: F401  the .rio accessor
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xr_rsembed
from tests import joint, reference, strategies
from xr_rsembed.errors import (
    BandOrderError,
    GridError,
    OptionError,
    RsEmbedWarning,
    SceneError,
    UnitsError,
    UnknownModelError,
)
from xr_rsembed.models import registry
from xr_rsembed.models.spec import ModelFamily

UNITS = {"S2L2A": "DN", "S1GRD": "dB", "DEM": "m"}


@pytest.fixture(autouse=True)
def joint_probe():
    registry.register(ModelFamily("joint_probe", (joint.SPEC,)))
    joint.forwards.clear()


def raw(name: str, height: int, width: int, *, holes: float = 0.0, seed: int = 0) -> np.ndarray:
    """Float pixels; ``holes`` is the share of 100 px squares that are NaN."""
    rng = np.random.default_rng([seed, joint.NAMES.index(name)])
    low, high = {"S2L2A": (200, 9000), "S1GRD": (-30, 5), "DEM": (0, 2000)}[name]
    pixels = rng.uniform(low, high, (len(joint.BANDS[name]), height, width)).astype("float32")
    missing = rng.random((-(-height // 100), -(-width // 100))) < holes
    pixels[:, np.kron(missing, np.ones((100, 100), dtype=bool))[:height, :width]] = np.nan
    return pixels


def scene(
    name: str, pixels: np.ndarray, chunks=None, step: float = 10.0, crs: str = "EPSG:32632"
) -> xr.DataArray:
    height, width = pixels.shape[-2:]
    array = xr.DataArray(
        pixels,
        dims=("time", "band", "y", "x")[-pixels.ndim :],
        coords={
            "band": list(joint.BANDS[name]),
            "y": 5_000_000 - step * (np.arange(height) + 0.5),
            "x": 500_000 + step * (np.arange(width) + 0.5),
        },
        attrs={"units": UNITS[name]},
    ).rio.write_crs(crs)
    return array if chunks is None else array.chunk(chunks)


def dataset(height=300, width=460, names=joint.NAMES, chunks=None, holes=0.0) -> xr.Dataset:
    """Each modality with a band dim of its own, the DEM without."""
    arrays = {name: scene(name, raw(name, height, width, holes=holes), chunks) for name in names}
    return xr.Dataset(
        {
            name: array.rename(band=f"band_{name}") if name != "DEM" else array[0]
            for name, array in arrays.items()
        }
    )


def embed(scenes, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RsEmbedWarning)
        return xr_rsembed.embed(scenes, "joint_probe", weights="random", device="cpu", **options)


def pixels_of(scenes: xr.Dataset) -> dict[str, np.ndarray]:
    return {name: array.values.reshape(-1, *array.shape[-2:]) for name, array in scenes.items()}


@settings(max_examples=20)
@given(
    data=st.data(),
    height=strategies.sizes,
    width=strategies.sizes,
    merge=st.sampled_from(["mean", "max", "concat", None]),
    holes=st.sampled_from([0.0, 0.3, 0.8]),
    overlap=strategies.overlaps,
    blend=strategies.blends,
    edge=strategies.edges,
    names=st.sampled_from([joint.NAMES, joint.NAMES[:2], joint.NAMES[::-1]]),
)
def test_mixed_modalities_equal_the_reference(data, height, width, merge, holes, overlap, blend, edge, names):
    pixels = {name: raw(name, height, width, holes=holes, seed=height) for name in names}
    if all(np.isnan(one).all() for one in pixels.values()):
        return
    scenes = {}
    for name, one in pixels.items():
        chunks = {"y": data.draw(strategies.chunks(height)), "x": data.draw(strategies.chunks(width))}
        scenes[name] = scene(name, one, chunks)
    with xr_rsembed.set_options(block_tiles=data.draw(st.sampled_from([1, 2, 8]))):
        result = embed(scenes, merge=merge, overlap=overlap, blend=blend, edge=edge, batch_size=3)
    found = result.compute(scheduler="synchronous").values
    wanted = joint.expected(pixels, merge, overlap=overlap, blend=blend, edge=edge)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_dict_is_a_dataset_from_one_forward_a_tile():
    scenes = dataset(224, 448, chunks={"y": 100, "x": 100})
    result = embed(scenes, merge="dict")
    assert isinstance(result, xr.Dataset)
    assert list(result) == list(joint.NAMES)
    computed = result.compute()
    assert joint.forwards == [joint.NAMES], "two tiles, one batch, for all three variables"
    wanted = joint.expected(pixels_of(scenes), "dict")
    for number, name in enumerate(joint.NAMES):
        assert computed[name].dims == ("D", "y", "x")
        np.testing.assert_allclose(computed[name], wanted[number], rtol=1e-5, atol=1e-4)
    assert computed["S2L2A"].attrs["modality"] == list(joint.NAMES)
    assert computed.attrs["merge"] == "dict"
    assert computed.rio.crs.to_epsg() == 32632


def test_none_keeps_the_modalities_along_a_dim():
    result = embed(dataset(), merge=None)
    assert result.dims == ("modality", "D", "y", "x")
    assert list(result.modality.values) == list(joint.NAMES)


def test_a_dataset_that_shares_one_band_dim():
    """xr.Dataset({"S2L2A": s2, "S1GRD": s1, "DEM": dem}) gives every variable the bands of all."""
    pixels = {name: raw(name, 300, 260) for name in joint.NAMES}
    scenes = xr.Dataset({name: scene(name, one) for name, one in pixels.items()})
    assert scenes.sizes["band"] == 15
    np.testing.assert_allclose(embed(scenes), joint.expected(pixels, "mean"), rtol=1e-5, atol=1e-4)


def test_variables_by_other_names():
    scenes = dataset(names=("S2L2A", "S1GRD"))
    renamed = scenes.rename(S2L2A="optical", S1GRD="radar")
    plain = embed(scenes)
    mapped = embed(renamed, modalities={"S2L2A": "optical", "S1GRD": "radar"})
    np.testing.assert_array_equal(mapped, plain)
    assert mapped.attrs["variable"] == ["optical", "radar"]
    renamed.optical.attrs["modality"], renamed.radar.attrs["modality"] = "S2L2A", "S1GRD"
    np.testing.assert_array_equal(embed(renamed), plain)
    one = embed(renamed, modalities=["radar"])
    np.testing.assert_array_equal(one, embed(scenes[["S1GRD"]]))
    assert one.attrs["modality"] == "S1GRD"


def test_building_computes_nothing_and_lazy_equals_eager():
    def refuse(*_, **__):
        raise AssertionError("something computed while the graph was being built")

    scenes = dataset(holes=0.4)
    with dask.config.set(scheduler=refuse):
        lazy = {
            merge: embed(scenes.chunk(y=90, x=200), merge=merge) for merge in ("mean", "concat", "dict", None)
        }
    for merge, result in lazy.items():
        eager = embed(scenes, merge=merge)
        for one in (eager, *(eager.values() if merge == "dict" else ())):
            del one.attrs["tiles"], one.attrs["tiles_without"]  # counted where the pixels are read anyway
        xr.testing.assert_identical(result.compute(), eager)


def test_missing_modalities_are_counted():
    pixels = {name: raw(name, 448, 672) for name in ("S2L2A", "S1GRD")}
    pixels["S1GRD"][:, :, 224:] = np.nan
    pixels["S2L2A"][:, 224:, 448:] = np.nan
    scenes = {name: scene(name, one) for name, one in pixels.items()}
    result = embed(scenes)
    # of 2 x 3 tiles one has nothing at all; radar reaches the first column
    assert result.attrs["tiles"] == 5
    assert result.attrs["tiles_without"] == [0, 3]
    lazy = embed({name: one.chunk(y=100, x=300) for name, one in scenes.items()})
    assert "tiles" not in lazy.attrs
    assert xr_rsembed.count_missing(lazy, scenes) == {"tiles": 5, "tiles_without": [0, 3]}
    assert sorted(joint.forwards) == [("S2L2A",), ("S2L2A", "S1GRD")]
    times = {name: xr.concat([one, one], "time") for name, one in scenes.items()}
    with xr_rsembed.set_options(block_tiles=1):
        assert embed(times).attrs["tiles_without"] == [0, 6]
        assert embed(scenes, overlap=112, density=2).attrs["tiles"] > 4 * 5


def test_min_valid_holds_for_each_modality_that_stays_apart():
    pixels = {name: raw(name, 224, 224) for name in ("S2L2A", "S1GRD")}
    pixels["S1GRD"][:, :9, :16] = np.nan
    scenes = {name: scene(name, one) for name, one in pixels.items()}
    apart = embed(scenes, merge=None, min_valid=0.5)
    assert np.isnan(apart.sel(modality="S1GRD")[:, 0, 0]).all()
    assert np.isfinite(apart.sel(modality="S2L2A")).all()
    assert np.isfinite(embed(scenes, merge="mean", min_valid=0.5)).all()


@pytest.mark.parametrize("output", ["pooled", "tiles"])
def test_pooled_vectors_of_modalities_that_stay_apart(output):
    pixels = {name: raw(name, 300, 460) for name in joint.NAMES}
    pixels["S1GRD"][:, :, 200:] = np.nan
    scenes = {name: scene(name, one) for name, one in pixels.items()}
    apart = embed(scenes, merge=None, output=output)
    concat = embed(scenes, merge="concat", output=output)
    flat = apart.transpose("modality", "D", ...).values.reshape(concat.shape)
    np.testing.assert_allclose(concat, flat, rtol=1e-6)
    if output == "tiles":
        return
    # by hand: the mean over each tile's valid cells, weighted by the valid pixels of the cells that the tile owns
    grid = joint.expected(pixels, None)
    assert grid.shape == (3, 4, 19, 29)
    ys, xs = (reference.tile_starts(n, 0, "shift")[0] for n in (300, 460))
    owner_y = np.array([ys.index(reference.nearest(row, ys)) for row in range(19)])
    owner_x = np.array([xs.index(reference.nearest(column, xs)) for column in range(29)])
    tiles = embed(scenes, merge=None, output="tiles")
    for number, name in enumerate(joint.NAMES):
        valid = (
            np.pad(~np.isnan(pixels[name]).any(axis=0), ((0, 4), (0, 4)))
            .reshape(19, 16, 29, 16)
            .sum(axis=(1, 3))
        )
        weights = [
            [valid[owner_y == i][:, owner_x == j].sum() for j in range(len(xs))] for i in range(len(ys))
        ]
        vectors = np.nan_to_num(tiles[number].values)
        np.testing.assert_allclose(
            apart[number], (vectors * weights).sum(axis=(1, 2)) / np.sum(weights), rtol=1e-5, atol=1e-5
        )


def test_a_modality_without_time_holds_for_all_times():
    times = {"time": np.array(["2024-01-01", "2024-07-01"], dtype="M8[ns]")}
    s2 = np.stack([raw("S2L2A", 230, 240, seed=seed) for seed in range(2)])
    dem = raw("DEM", 230, 240)
    result = embed({"DEM": scene("DEM", dem), "S2L2A": scene("S2L2A", s2).assign_coords(times)}, merge="max")
    assert result.dims == ("time", "D", "y", "x")
    for number, one in enumerate(s2):
        np.testing.assert_allclose(
            result[number], joint.expected({"DEM": dem, "S2L2A": one}, "max"), rtol=1e-5, atol=1e-4
        )


def test_linear_radar_is_converted_only_where_its_units_say_so():
    power = np.random.default_rng(0).uniform(1e-3, 1, (2, 224, 224)).astype("float32")
    s2 = raw("S2L2A", 224, 224)
    decibels = scene("S1GRD", 10 * np.log10(power))
    wanted = embed({"S2L2A": scene("S2L2A", s2), "S1GRD": decibels})
    linear = scene("S1GRD", power).assign_attrs(units="linear")
    np.testing.assert_allclose(
        embed({"S2L2A": scene("S2L2A", s2), "S1GRD": linear}), wanted, rtol=1e-4, atol=1e-4
    )
    del linear.attrs["units"]
    scenes = {"S2L2A": scene("S2L2A", s2), "S1GRD": linear}
    with pytest.raises(UnitsError, match="linear"):
        embed(scenes)
    said = embed(scenes, units={"S1GRD": "linear"})
    np.testing.assert_allclose(said, wanted, rtol=1e-4, atol=1e-4)
    assert said.attrs["units"] == ["", "linear"]
    np.testing.assert_array_equal(xr_rsembed.reproduce(said, scenes, device="cpu"), said)


@pytest.mark.parametrize("merge", ["mean", "dict", "concat"])
@pytest.mark.parametrize("suffix", [".zarr", ".nc", None])
def test_reproduce_from_what_was_stored(tmp_path, merge, suffix):
    scenes = dataset(240, 250, names=("S2L2A", "S1GRD"), chunks={}).rename(S2L2A="a", S1GRD="b")
    first = embed(scenes, modalities={"S2L2A": "a", "S1GRD": "b"}, merge=merge, overlap=32)
    stored = first
    if suffix == ".zarr":
        first.to_zarr(tmp_path / "emb.zarr")
        stored = xr.open_zarr(tmp_path / "emb.zarr")
    elif suffix == ".nc":
        first.to_netcdf(tmp_path / "emb.nc", engine="h5netcdf")
        stored = xr.open_dataset(tmp_path / "emb.nc", engine="h5netcdf")
    if merge != "dict" and suffix:
        stored = stored["embedding"]
    again = xr_rsembed.reproduce(stored, scenes, device="cpu")
    xr.testing.assert_identical(again.compute(), first.compute())


def test_align_brings_scenes_onto_the_first():
    pixels = {name: raw(name, 300, 260) for name in joint.NAMES}
    s2 = scene("S2L2A", pixels["S2L2A"], {"y": 100})
    finer = scene(
        "S1GRD", np.kron(pixels["S1GRD"], np.ones((1, 2, 2), dtype="float32")), {"y": 128}, step=5.0
    )
    coarser = scene("DEM", pixels["DEM"][:, 1::3, 1::3], {}, step=30.0)
    with pytest.raises(GridError, match=r"different grids(.|\n)*5 from(.|\n)*xr_rsembed\.align"):
        embed({"S2L2A": s2, "S1GRD": finer, "DEM": coarser})
    scenes = xr_rsembed.align({"S2L2A": s2, "S1GRD": finer, "DEM": coarser}, resampling="nearest")
    assert all(array.chunks is not None for array in scenes.values())
    np.testing.assert_array_equal(scenes["S2L2A"], pixels["S2L2A"])
    np.testing.assert_allclose(scenes["S1GRD"], pixels["S1GRD"])
    thirds = np.kron(pixels["DEM"][:, 1::3, 1::3], np.ones((1, 3, 3), dtype="float32"))[:, :, :260]
    np.testing.assert_allclose(scenes["DEM"], thirds)
    result = scenes.rsembed.embed("joint_probe", weights="random", device="cpu")
    wanted = joint.expected({**pixels, "DEM": thirds}, "mean")
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-4)


def test_align_onto_another_grid_and_from_another_crs():
    s2 = scene("S2L2A", raw("S2L2A", 120, 100))
    moved = s2.odc.reproject("EPSG:3857")
    back = xr_rsembed.align({"S2L2A": moved}, like=s2, resampling={"S2L2A": "nearest"})["S2L2A"]
    assert back.odc.geobox == s2.odc.geobox
    inner = (back.values == s2.values)[:, 10:-10, 10:-10]
    assert inner.mean() > 0.3, "nearest of nearest: many pixels come back as they were"
    half = s2[:, :, :50]
    beyond = xr_rsembed.align({"S2L2A": half}, like=s2)["S2L2A"]
    assert np.isnan(beyond[:, :, 51:]).all()
    np.testing.assert_allclose(beyond[:, :, :49], s2[:, :, :49], rtol=1e-5)


BAD_ALIGNMENTS = {
    "nothing": (lambda s2: xr_rsembed.align({}), SceneError, "no scene"),
    "no crs": (lambda s2: xr_rsembed.align({"a": s2.drop_vars("spatial_ref")}), GridError, "no CRS"),
    "resampling": (
        lambda s2: xr_rsembed.align({"a": s2, "b": s2[:, 1:]}, resampling="magic"),
        OptionError,
        "magic",
    ),
    "name": (lambda s2: xr_rsembed.align({"a": s2}, resampling={"b": "nearest"}), OptionError, "not there"),
    "elsewhere": (
        lambda s2: xr_rsembed.align({"a": s2, "b": s2.assign_coords(x=s2.x + 1e5)}),
        GridError,
        "wholly outside",
    ),
}


@pytest.mark.parametrize("case", BAD_ALIGNMENTS)
def test_bad_alignments(case):
    call, error, said = BAD_ALIGNMENTS[case]
    with pytest.raises(error, match=said):
        call(scene("S2L2A", raw("S2L2A", 64, 64)))


def _times(start: str) -> dict[str, np.ndarray]:
    return {"time": np.array([start], dtype="M8[ns]")}


def _joined_of_different_grids(ds, shift):
    s1 = scene("S1GRD", raw("S1GRD", 300, 460))
    return xr.Dataset({"S2L2A": ds.S2L2A, "S1GRD": s1.assign_coords(x=s1.x + shift)})


BAD = {
    "unknown modality": (
        lambda ds: embed(ds.rename(S2L2A="optical")),
        UnknownModelError,
        r"'optical' is no modality(.|\n)*modalities=\{",
    ),
    "unknown modality asked for": (lambda ds: embed(ds, modalities={"S3": "S2L2A"}), UnknownModelError, "S3"),
    "modality twice": (
        lambda ds: embed(ds.assign(s2l2a=ds.S2L2A)),
        OptionError,
        "modality S2L2A is given twice",
    ),
    "variable twice": (
        lambda ds: embed(ds, modalities={"S1GRD": "S1GRD", "S1RTC": "S1GRD"}),
        OptionError,
        "variable S1GRD is given twice",
    ),
    "ambiguous modality": (
        lambda ds: embed(ds, modalities={"s1": "S1GRD"}),
        SceneError,
        "S1GRD or S1RTC|S1RTC or S1GRD",
    ),
    "no such variable": (lambda ds: embed(ds, modalities={"S2L2A": "optical"}), SceneError, "'optical'"),
    "no variable": (lambda ds: embed(ds[[]]), SceneError, "no variable"),
    "modality= of a Dataset": (lambda ds: embed(ds, modality="S2L2A"), OptionError, "modalities="),
    "modalities= of a DataArray": (
        lambda ds: embed(scene("S2L2A", raw("S2L2A", 64, 64)), modalities={"S2L2A": "x"}),
        OptionError,
        "modality=",
    ),
    "not an array": (lambda ds: embed({"S2L2A": np.zeros((12, 5, 5))}), SceneError, "ndarray"),
    "other shape": (lambda ds: embed({"S2L2A": ds.S2L2A, "DEM": ds.DEM[:-1]}), GridError, "align"),
    "other crs": (
        lambda ds: embed({"S2L2A": ds.S2L2A, "DEM": ds.DEM.rio.write_crs("EPSG:32633")}),
        GridError,
        r"EPSG:32632(.|\n)*EPSG:32633(.|\n)*align",
    ),
    "half a pixel off": (
        lambda ds: embed({"S2L2A": ds.S2L2A, "DEM": ds.DEM.assign_coords(y=ds.y + 5)}),
        GridError,
        "align",
    ),
    "joined by xarray, irregular": (
        lambda ds: embed(_joined_of_different_grids(ds, 3.0)),
        GridError,
        "align",
    ),
    "joined by xarray, regular": (
        lambda ds: embed(_joined_of_different_grids(ds.rio.write_transform(), 5.0)),
        GridError,
        "align",
    ),
    "unknown units": (lambda ds: embed(ds, units={"S1GRD": "furlong"}), UnitsError, "furlong"),
    "units of no modality": (lambda ds: embed(ds, units={"S3": "dB"}), OptionError, "S3"),
    "units without a modality": (lambda ds: embed(ds, units="dB"), OptionError, "which modality"),
    "wrong units": (
        lambda ds: embed({**ds, "S2L2A": ds.S2L2A.assign_attrs(units="reflectance")}),
        UnitsError,
        "reflectance",
    ),
    "a band is missing": (lambda ds: embed(ds.isel(band_S2L2A=slice(11))), BandOrderError, "B12"),
    "unclear band dim": (
        lambda ds: embed(ds.isel(band_S1GRD=[0]).rename(band_S1GRD="polarization")),
        SceneError,
        "which dim",
    ),
    "other times": (
        lambda ds: embed(
            {
                "S2L2A": ds.S2L2A.expand_dims(_times("2024-01-01")),
                "S1GRD": ds.S1GRD.expand_dims(_times("2024-01-03")),
            }
        ),
        SceneError,
        r"different coords(.|\n)*nearest",
    ),
    "a model of one modality": (
        lambda ds: xr_rsembed.embed(ds[["S2L2A", "S1GRD"]], "terrafm", weights="random"),
        SceneError,
        "one modality at a time",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, said = BAD[case]
    scenes = dataset()
    with pytest.raises(error, match=said):
        call(scenes)
