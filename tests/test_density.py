"""Grids denser than patches: every shifted lattice against the plain call on the shifted scene."""

from __future__ import annotations

import warnings

import dask
import numpy as np
import pytest
import rioxarray  # noqa: F401  the .rio accessor
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xr_rsembed
from tests import fakes, joint, strategies
from xr_rsembed.errors import OptionError, RsEmbedWarning
from xr_rsembed.models import registry
from xr_rsembed.models.spec import ModelFamily
from xr_rsembed.store import conventions

pytestmark = pytest.mark.usefixtures("probe")


def scene_of(
    height: int, width: int, *, chunks=None, nodata_share: float = 0.0, seed: int = 0
) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(200, 9000, size=(12, height, width), dtype="uint16")
    coarse = rng.random((-(-height // 40), -(-width // 40))) < nodata_share
    pixels[:, np.kron(coarse, np.ones((40, 40), dtype=bool))[:height, :width]] = 0
    scene = xr.DataArray(
        pixels,
        dims=("band", "y", "x"),
        coords={
            "band": list(fakes.S2),
            "y": 5_000_000 - 10.0 * (np.arange(height) + 0.5),
            "x": 500_000 + 10.0 * (np.arange(width) + 0.5),
        },
        attrs={"units": "DN", "_FillValue": 0},
    ).rio.write_crs("EPSG:32632")
    return scene if chunks is None else scene.chunk(chunks)


def embed(scene, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RsEmbedWarning)
        return xr_rsembed.embed(scene, "probe", weights="random", device="cpu", **options)


def assert_lattices(scene: xr.DataArray, dense: xr.DataArray, density: int, **options) -> None:
    """Each lattice of the dense grid has exactly the numbers and the places of the plain call."""
    shift = 16 // density
    height, width = scene.sizes["y"], scene.sizes["x"]
    assert (dense.sizes["y"], dense.sizes["x"]) == (-(-height // shift), -(-width // shift))
    for i in range(min(density, dense.sizes["y"])):
        for j in range(min(density, dense.sizes["x"])):
            shifted = scene.isel(y=slice(i * shift, None), x=slice(j * shift, None))
            plain = embed(shifted, **options).compute(scheduler="synchronous")
            lattice = dense.isel(y=slice(i, None, density), x=slice(j, None, density))
            np.testing.assert_array_equal(lattice, plain)
            if min(shifted.sizes["y"], shifted.sizes["x"]) > 16:
                np.testing.assert_allclose(lattice.y, plain.y)
                np.testing.assert_allclose(lattice.x, plain.x)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    height=st.integers(1, 500),
    width=st.integers(1, 300),
    density=st.sampled_from([2, 4]),
    overlap=strategies.overlaps,
    blend=strategies.blends,
    edge=strategies.edges,
    nodata_share=st.sampled_from([0.0, 0.4]),
    min_valid=st.sampled_from([0.0, 0.6]),
    block_tiles=st.sampled_from([1, 3, 8]),
)
def test_lattices_equal_the_plain_call(
    data, height, width, density, overlap, blend, edge, nodata_share, min_valid, block_tiles
):
    scene = scene_of(height, width, nodata_share=nodata_share, seed=height)
    options = {"overlap": overlap, "blend": blend, "edge": edge, "min_valid": min_valid}
    chunks = {"y": data.draw(strategies.chunks(height)), "x": data.draw(strategies.chunks(width))}
    with xr_rsembed.set_options(block_tiles=block_tiles):
        dense = embed(scene.chunk(chunks), density=density, **options)
        assert_lattices(scene, dense.compute(scheduler="synchronous"), density, **options)


@pytest.mark.parametrize(("density", "size"), [(8, (18, 230)), (16, (20, 4)), (16, (5, 3))])
def test_dense_lattices(density, size):
    scene = scene_of(*size)
    assert_lattices(scene, embed(scene, density=density), density)


def test_density_16_is_a_cell_for_every_pixel():
    assert embed(scene_of(230, 20), density=16).shape[1:] == (230, 20)


def test_density_1_is_the_plain_call():
    scene = scene_of(500, 300, chunks=128, nodata_share=0.2)
    xr.testing.assert_identical(embed(scene, density=1).compute(), embed(scene).compute())
    assert embed(scene, density=1).data.name == embed(scene).data.name


@pytest.mark.parametrize("density", [2, 4, 8, 16])
def test_each_cell_stands_around_its_patch(density):
    scene = scene_of(64, 48)
    dense = embed(scene, density=density)
    shift = 16 // density
    first_rows = np.arange(dense.sizes["y"]) * shift
    np.testing.assert_allclose(dense.y, 5_000_000 - 10 * (first_rows + 8.0))
    np.testing.assert_allclose(dense.x, 500_000 + 10 * (np.arange(dense.sizes["x"]) * shift + 8.0))
    assert dense.rio.crs.to_epsg() == 32632
    assert dense.rio.resolution() == (10.0 * shift, -10.0 * shift)


def test_south_up_scenes():
    """The model sees north up whatever the axes: the twin's numbers, on the scene's own axes."""
    scene = scene_of(300, 260)
    twin = embed(scene.isel(y=slice(None, None, -1)), density=2)
    xr.testing.assert_equal(
        twin.isel(y=slice(None, None, -1)).drop_vars("spatial_ref"),
        embed(scene, density=2).drop_vars("spatial_ref"),
    )


def test_leading_dims_and_several_modalities():
    registry.register(ModelFamily("joint_probe", (joint.SPEC,)))
    rng = np.random.default_rng(0)
    s2 = scene_of(250, 240)
    dem = (
        s2[0].drop_vars("band").astype("float32").copy(data=rng.uniform(0, 900, (250, 240)).astype("float32"))
    )
    dem[:, 100:] = np.nan
    scenes = {
        "S2L2A": xr.concat([s2, s2 + 1], "time").assign_attrs(s2.attrs),
        "DEM": dem.assign_attrs(units="m"),
    }

    def embed_both(scenes, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RsEmbedWarning)
            return xr_rsembed.embed(
                scenes, "joint_probe", weights="random", merge=None, device="cpu", **options
            )

    dense = embed_both(scenes, density=2)
    assert dense.dims == ("time", "modality", "D", "y", "x")
    shifted = {name: array.isel(x=slice(8, None)) for name, array in scenes.items()}
    np.testing.assert_array_equal(dense.isel(y=slice(0, None, 2), x=slice(1, None, 2)), embed_both(shifted))


def test_layers_from_the_same_forwards():
    scene = scene_of(240, 224)
    fakes.clear()
    dense = embed(scene, density=2, layer=[0, -1])
    tiles = sum(fakes.forwards)
    assert tiles == (2 + 2) * (1 + 1), "two tiles and one along y and x, from both origins"
    np.testing.assert_array_equal(dense.sel(layer=-1, drop=True), embed(scene, density=2))


def test_two_chunkings_and_schedulers_give_the_same_numbers():
    first = embed(scene_of(470, 600, chunks={"y": 100, "x": 77, "band": 5}), density=4)
    second = embed(scene_of(470, 600, chunks={"y": 470, "x": 600}), density=4)
    xr.testing.assert_identical(first.compute(scheduler="synchronous"), second.compute(scheduler="threads"))


def test_building_computes_nothing():
    def refuse(*_, **__):
        raise AssertionError("something computed while the graph was being built")

    with dask.config.set(scheduler=refuse):
        assert embed(scene_of(470, 600, chunks=100), density=8).chunks is not None


@pytest.mark.parametrize("density", [2, 4, 8, 16])
def test_chunks_stay_about_as_large(density):
    scene = xr.DataArray(
        dask.array.zeros((12, 4000, 4000), dtype="uint16", chunks=2000),
        dims=("band", "y", "x"),
        coords={"band": list(fakes.S2)},
        attrs={"units": "DN"},
    )
    plain, dense = embed(scene), embed(scene, density=density)
    most = max(map(max, dense.chunks[-2:]))
    # at most a tile's cells at this density, or the plain block's
    assert most <= max(14 * density, max(map(max, plain.chunks[-2:])))


def test_cost_is_said_above_4():
    scene = scene_of(230, 230, chunks=100)
    with pytest.warns(RsEmbedWarning, match="64 times"):
        xr_rsembed.embed(scene, "probe", weights="random", density=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xr_rsembed.embed(scene, "probe", weights="random", density=4)


def test_recorded_and_reproduced(tmp_path):
    scene = scene_of(240, 230, chunks=100)
    first = embed(scene, density=2)
    assert first.attrs["density"] == 2
    first.to_zarr(tmp_path / "emb.zarr")
    stored = xr.open_zarr(tmp_path / "emb.zarr")["embedding"]
    layout = conventions.chip_layout(stored.attrs)
    assert (layout["chip_size"], layout["stride"]) == ([16, 16], [8, 8])
    assert conventions.pixel_size(stored) == 10.0
    again = xr_rsembed.reproduce(stored, scene, device="cpu")
    xr.testing.assert_identical(again.compute(), first.compute())


@pytest.mark.parametrize("density", [0, 3, 32, -2, True, "2", 1.5])
def test_densities_that_cannot_be_used(density):
    with pytest.raises(OptionError, match=r"density(.|\n)*(16|whole number(.|\n)*8)"):
        embed(scene_of(30, 30), density=density)


@pytest.mark.parametrize("options", [{"output": "pooled"}, {"output": "tiles"}, {"input_prep": "resize"}])
def test_only_a_grid_of_tiles_can_be_denser(options):
    with pytest.raises(OptionError, match="density=2"):
        embed(scene_of(30, 30), density=2, **options)
