"""One map over blocks of whole tiles: each tile once, leading dims in one batch, regular chunks, public API only."""

from __future__ import annotations

import ast
import subprocess
import sys
import warnings
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xr_rsembed
from tests import fakes, reference, strategies
from tests.test_engine import embed, expected, random_pixels, scene_of
from xr_rsembed.engine import embed as pipeline
from xr_rsembed.errors import OptionError
from xr_rsembed.tiling import tile_blocks

pytestmark = pytest.mark.usefixtures("probe")
some = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
PACKAGE = Path(xr_rsembed.__file__).parent
SOURCES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}


# What has no public name elsewhere; none of it could be had otherwise.
NAMELESS = {
    ("errors.py", "_getframe"),
    ("store/group.py", "_store"),  # what a WrapperStore of zarr wraps
    ("providers/gee_client.py", "_get_state"),
    ("models/packed.py", "_linear_pointwise"),
    ("models/packed.py", "_reorder_linear_weight"),
}


def tiles_of(height, width, overlap, edge, density=1):
    """How many tiles a scene has."""
    origins = range(0, 16, 16 // density)
    along = [
        sum(
            len(reference.tile_starts(size - origin, overlap, edge)[0]) for origin in origins if origin < size
        )
        for size in (height, width)
    ]
    return along[0] * along[1]


@some
@given(
    height=st.integers(1, 900),
    width=st.integers(1, 500),
    overlap=strategies.overlaps,
    blend=strategies.blends,
    edge=strategies.edges,
    density=st.sampled_from([1, 1, 2]),
    output=st.sampled_from(["grid", "tiles", "pooled"]),
    block_tiles=st.sampled_from([1, 2, 8]),
)
def test_each_tile_runs_once_and_chunks_are_regular(
    height, width, overlap, blend, edge, density, output, block_tiles
):
    density = density if output == "grid" else 1
    scene = scene_of(random_pixels(height, width, seed=1), {"y": 300, "x": 210})
    with xr_rsembed.set_options(block_tiles=block_tiles):
        lazy = embed(scene, overlap=overlap, blend=blend, edge=edge, density=density, output=output)
    fakes.clear()
    lazy.compute(scheduler="synchronous")
    assert sum(fakes.forwards) == tiles_of(height, width, overlap, edge, density)
    for sizes in lazy.chunks:
        assert set(sizes[:-1]) <= {sizes[0]}
        assert sizes[-1] <= sizes[0]


@some
@given(data=st.data(), overlap=strategies.overlaps, edge=strategies.edges)
def test_cuts_between_blocks_never_show_in_a_mean(data, overlap, edge):
    height, width = data.draw(st.integers(200, 900)), data.draw(st.integers(1, 400))
    scene = scene_of(random_pixels(height, width, seed=2, nodata_share=0.2), {}, nodata=0)
    results = []
    for block_tiles in (1, 2, 8):
        with xr_rsembed.set_options(block_tiles=block_tiles):
            results.append(embed(scene, overlap=overlap, blend="mean", edge=edge).compute())
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("options", [{}, {"blend": "mean"}, {"density": 2}, {"output": "tiles"}], ids=str)
def test_plain_xarray_writes_any_result(tmp_path, options):
    pixels = np.stack([random_pixels(950, 480, seed) for seed in range(3)])
    with xr_rsembed.set_options(block_tiles=2):
        lazy = embed(scene_of(pixels, {"y": 300}), overlap=64, **options)
    right = lazy.compute()
    lazy.to_zarr(tmp_path / "emb.zarr")
    xr.testing.assert_equal(xr.open_zarr(tmp_path / "emb.zarr").embedding, right)
    template = xr.zeros_like(lazy).to_dataset().drop_vars("spatial_ref")
    template.to_zarr(tmp_path / "parts.zarr", compute=False)
    first = lazy.chunks[-2][0]
    part = lazy.drop_vars("spatial_ref").isel({lazy.dims[-2]: slice(first, None)})
    part.to_dataset().to_zarr(tmp_path / "parts.zarr", region="auto")
    written = xr.open_zarr(tmp_path / "parts.zarr").embedding
    np.testing.assert_array_equal(written[..., first:, :], right[..., first:, :])


def test_chips_fill_batches_together():
    pixels = np.random.default_rng(0).integers(200, 9000, (150, 12, 64, 64), dtype="uint16")
    pixels[3] = 0
    scene = scene_of(pixels, {"time": 1}, nodata=0).rename(time="chip")
    lazy = embed(scene, batch_size=32)
    fakes.clear()
    values = lazy.compute(scheduler="synchronous")
    assert lazy.chunks[0] == (50, 50, 50), "as many as a block of 8 x 8 tiles at most, shared out evenly"
    assert sorted(fakes.forwards) == [17, 18, 18, 32, 32, 32]
    assert np.isnan(values[3]).all()
    for chip in (0, 64, 149):
        np.testing.assert_allclose(values[chip], expected(pixels[chip]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("output", ["tiles", "pooled"])
@pytest.mark.parametrize("input_prep", ["tile", "resize"])
def test_leading_dims_in_one_batch_give_what_each_gives_alone(output, input_prep):
    if (output, input_prep) == ("tiles", "resize"):
        output = "grid"
    pixels = np.random.default_rng(0).integers(200, 9000, (2, 3, 12, 100, 240), dtype="uint16")
    pixels[0, 1, :, :50, :100] = 0
    scene = scene_of(pixels[0, 0], nodata=0).expand_dims(site=2, time=3).copy(data=pixels)
    together = embed(scene.chunk(y=60), output=output, input_prep=input_prep).compute()
    for site, time in np.ndindex(2, 3):
        alone = embed(scene[site, time], output=output, input_prep=input_prep)
        np.testing.assert_allclose(together[site, time], alone, rtol=1e-6)


def test_means_over_many_dates_and_blocks():
    pixels = np.stack([random_pixels(400, 300, seed, nodata_share=0.1) for seed in range(3)])
    with xr_rsembed.set_options(block_tiles=2):
        lazy = embed(scene_of(pixels, {}, nodata=0), overlap=64, blend="mean")
    for date, one in zip(lazy.compute(), pixels, strict=True):
        np.testing.assert_allclose(
            date, expected(one, overlap=64, blend="mean", nodata=0), rtol=1e-5, atol=1e-5
        )


def test_the_scheduler_that_is_set_runs_scenes_in_memory_too():
    seen = []

    def scheduler(graph, keys, **options):
        seen.append(len(keys))
        return dask.get(graph, keys, **options)

    scene = scene_of(random_pixels(300, 250, seed=1))
    with dask.config.set(scheduler=scheduler):
        embed(scene)
    assert seen


CODE = """
import dask
dask.config.set({"array.query-planning": True})
import numpy as np, xarray as xr, xr_rsembed
from tests import fakes
fakes.register()
pixels = np.random.default_rng(0).integers(200, 9000, (12, 500, 300), dtype="uint16")
scene = xr.DataArray(pixels, dims=("band", "y", "x"), coords={"band": list(fakes.S2)}, attrs={"units": "DN"})
eager = xr_rsembed.embed(scene, "probe", weights="random", device="cpu", overlap=64, blend="mean")
assert isinstance(eager.data, np.ndarray)
lazy = xr_rsembed.embed(scene.chunk(y=100), "probe", weights="random", device="cpu", overlap=64, blend="mean")
np.testing.assert_array_equal(lazy.compute(), eager)
pooled = xr_rsembed.embed(scene, "probe", weights="random", device="cpu", output="pooled")
assert np.isfinite(pooled).all()
from xr_rsembed.engine.presence import count_missing
from xr_rsembed.inputs.record import Input, Pixels
from xr_rsembed.normalize import Normalization
from xr_rsembed.tiling import Blocks, tile_blocks
checked = Input(scene, fakes.S2, Pixels("S2L2A", Normalization("none")))
assert count_missing([checked], Blocks(tile_blocks(500), tile_blocks(300)))["tiles"] == 6
print("same")
"""


def test_under_query_planning():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "same", done.stderr


@pytest.mark.parametrize(("planning", "kind"), [(True, OptionError), (False, NotImplementedError)])
def test_what_query_planning_cannot_do_is_named(monkeypatch, planning, kind):
    def lacking(*args, **options):
        raise NotImplementedError("Function where is not implemented for dask-expr.")

    monkeypatch.setattr(pipeline, "map_tiles", lacking)
    with (
        dask.config.set({"array.query-planning": planning}),
        pytest.raises(kind, match=r'"array\.query-planning" is on' if planning else "Function where"),
    ):
        embed(scene_of(random_pixels(300, 250, seed=1)))


def test_no_private_module_or_name_of_dask_distributed_xarray_or_zarr_is_imported():
    found = []
    for name, tree in SOURCES.items():
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [f"{node.module}.{alias.name}" for alias in node.names]
            for module in modules:
                top, *inner = module.split(".")
                if top in ("dask", "distributed", "xarray", "zarr") and any(
                    part.startswith("_") and not part.startswith("__") for part in inner
                ):
                    found.append((name, module))
    assert found == []


def test_no_private_attribute_of_anothers_object_is_touched():
    """What begins with an underscore and is defined nowhere in the package belongs to somebody else."""
    touched = set()
    for name, tree in SOURCES.items():
        ours = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                ours.add(node.name)
            elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
                ours.add(node.id if isinstance(node, ast.Name) else node.attr)
        touched |= {
            (name, node.attr)
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
            if node.attr not in ours
        }
    assert touched <= NAMELESS


def test_only_models_name_a_family():
    families = {path.name for path in (PACKAGE / "models").iterdir() if (path / "family.py").exists()}
    assert families == {"terramind", "terrafm", "prithvi"}
    for name in SOURCES:
        if not name.startswith("models/"):
            source = (PACKAGE / name).read_text()
            assert "family ==" not in source, name
            assert not any(f"models.{family}" in source for family in families), name


@pytest.mark.parametrize("options", [{}, {"overlap": 64, "blend": "mean"}, {"output": "tiles"}], ids=str)
def test_windows_are_layers_by_a_name_that_stores_know(options):
    """Stores digest a scene from them: one chunk a block, whatever the options."""
    with xr_rsembed.set_options(block_tiles=2):
        lazy = embed(scene_of(random_pixels(950, 500, seed=0), {"y": 300}), **options)
    layers = lazy.data.dask.layers
    (windows,) = [name for name in layers if name.startswith("rsembed-windows-")]
    blocks = [key for key in lazy.data.dask if isinstance(key, tuple) and key[0] == windows]
    along = [len(tile_blocks(size, options.get("overlap", 0), tiles=2)) for size in (950, 500)]
    assert len(blocks) == along[0] * along[1]


def test_a_corner_runs_only_the_blocks_that_it_needs():
    with xr_rsembed.set_options(block_tiles=1):
        lazy = embed(scene_of(random_pixels(900, 900, seed=0), {"y": 224, "x": 224}))
    fakes.clear()
    lazy.isel(y=slice(0, 20), x=slice(0, 10)).compute(scheduler="synchronous")
    assert sum(fakes.forwards) == 2


def test_nothing_warns_while_a_large_scene_is_planned():
    pixels = dask.array.zeros((12, 20_000, 20_000), dtype="uint16", chunks=(12, 2000, 2000))
    scene = xr.DataArray(
        pixels, dims=("band", "y", "x"), coords={"band": list(fakes.S2)}, attrs={"units": "DN"}
    )
    scene = scene.assign_coords(y=-10.0 * np.arange(20_000), x=10.0 * np.arange(20_000)).rio.write_crs(32632)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        xr_rsembed.embed(scene, "probe", weights="random", device="cpu", overlap=64, blend="mean")
