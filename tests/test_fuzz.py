"""Random scenes through ``validate`` and ``embed``: an embedding that keeps its contract, or an error of ours.

The same examples every time; more and other ones with ``FUZZ_EXAMPLES=2000 pytest tests/test_fuzz.py``.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from typing import Any

import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401  the .rio accessor
import xarray as xr
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import xr_rsembed
from tests import fakes, slow_reader, strategies
from tests.contract import assert_contract, flipped
from tests.test_inputs import MODEL
from xr_rsembed import api
from xr_rsembed.errors import RsEmbedError

pytestmark = pytest.mark.usefixtures("probe")
bounded = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")),
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)

NUMBERS = [
    "uint8",
    "uint16",
    "int16",
    ">u2",
    "int32",
    "uint32",
    "int64",
    "float16",
    "float32",
    ">f4",
    "float64",
]
OTHERS = ["uint64", "longdouble", "bool", "complex64", "U4", "S2", "object", "M8[ns]", "m8[s]"]
NAMES = st.sampled_from(
    ["time", "layer", "D", "modality", "tile_y", "channel", "lat", "X", "", 3, ("a", "b")]
)
ODD: dict[str, list[Any]] = {
    "units": [
        "DN",
        "dn",
        "dB",
        "linear",
        "kelvin",
        "",
        None,
        5,
        ["DN"] * 12,
        ("dB", "DN"),
        [],
        {"a": 1},
        b"DN",
    ],
    "_FillValue": [
        0,
        0.0,
        np.uint16(0),
        np.nan,
        np.inf,
        -9999,
        1e40,
        [0],
        [],
        "0",
        "none",
        None,
        {},
        1j,
        b"0",
    ],
    "missing_value": [0, np.array([0, 1]), np.array("0"), "", True],
    "nodata": [0, np.float32(np.nan), "NaN", [[0]], object()],
    "long_name": [
        "Elevation",
        list(fakes.S2),
        tuple(fakes.S2),
        ["B1"],
        list(range(12)),
        [None] * 12,
        None,
        7,
        [],
    ],
    "modality": ["S2L2A", "S1GRD", "DEM", "S9", "", None, 5, ["S2L2A"], {"S2L2A": 1}, np.array(["S2L2A"])],
    "grid_mapping": ["spatial_ref", "absent", "time", "", 5, None, ["spatial_ref"]],
    "crs": ["EPSG:32632", "EPSG:99999999", "nonsense", 32632, -1, "", None, {"init": "x"}],
    "transform": [(10, 0, 0, 0, -10, 0), (1, 2), "10,0,0", None, 3],
    "scale_factor": [1e-4, "x", None],
    "spec": ["RasterSpec", None],
    "href": ["https://user:secret@example.org/a.tif?sig=abc"],
}
WKTS = ["EPSG:32632", "EPSG:4326", "EPSG:3035"]


def rarely(draw: Any, one_in: int = 5) -> bool:
    return draw(st.sampled_from([False] * (one_in - 1) + [True]))


@st.composite
def axis(draw: Any, size: int, dim: str) -> Any:
    """A coord of pixel centres; now and then one that is none."""
    step = draw(st.sampled_from([10.0, -10.0, 20.0, 1e-4, -0.1, 7]))
    values = draw(st.sampled_from([500_000.0, 0.0, -3e6, 45.0])) + step * np.arange(size)
    if not rarely(draw, 6):
        return values
    jumps = values + 1000.0 * (np.arange(size) > size // 2)
    return draw(
        st.sampled_from(
            [
                jumps,
                np.full(size, 5.0),
                np.where(np.arange(size) == size // 2, np.nan, values),
                np.where(np.arange(size) == 0, np.inf, values),
                values.astype("float32"),
                values.astype("int64"),
                values.astype("int8"),
                values.astype("complex64"),
                values > 0,
                np.arange(size).astype("M8[D]"),
                np.arange(size).astype("m8[s]"),
                np.array([f"{dim}{n}" for n in range(size)]),
                np.array([None] * size, dtype=object),
                np.random.default_rng(size).permutation(values),
                values * 1e300,
            ]
        )
    )


@st.composite
def band_labels(draw: Any, number: int) -> Any:
    """Labels of the bands, or None for a scene without."""
    own = [*fakes.S2, *(f"extra{n}" for n in range(number))][:number]
    if not rarely(draw, 4):
        return own
    return draw(
        st.sampled_from(
            [
                None,
                list(range(1, number + 1)),
                [f"B{n:02}" for n in range(1, number + 1)],
                own[::-1],
                [own[0]] * number,
                np.linspace(0.4, 2.2, number),
                np.array([None] * number, dtype=object),
                np.array([("B", n) for n in range(number)], dtype="O,O").astype(object),
                np.arange(number).astype("M8[D]"),
                [True] * number,
                ["VV", "VH", *own][:number],
                ["", " ", "\n", *own][:number],
            ]
        )
    )


@st.composite
def pixels(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Values of any dtype, some of them zero, some not a number."""
    rng = np.random.default_rng(draw(st.integers(0, 5)))
    values = rng.integers(0, 120, size=shape)
    values[rng.random(shape) < 0.1] = 0
    if draw(st.booleans()):
        values[..., : shape[-1] // 2 + 1] = 0
    dtype = draw(st.sampled_from(OTHERS if rarely(draw, 10) else NUMBERS))
    made = values.astype(dtype)
    if made.dtype.kind == "f":
        share = draw(st.sampled_from([0.0, 0.01, 1.0]))
        made[rng.random(shape) < share] = draw(st.sampled_from([np.nan] * 6 + [np.inf, -np.inf, 6e4]))
    if rarely(draw):
        made.flags.writeable = False
    return made


@st.composite
def scenes(draw: Any) -> xr.DataArray:
    """A scene that may be embedded, with anything about it that may be wrong."""
    sizes = {"band": 12 if not rarely(draw) else draw(st.sampled_from([0, 1, 2, 3, 11, 13]))}
    sizes |= {dim: draw(st.sampled_from([1, 2, 16, 17, 40, 225])) for dim in ("y", "x")}
    if rarely(draw, 25):
        sizes[draw(st.sampled_from(["y", "x"]))] = 0
    if rarely(draw, 3):
        sizes[draw(NAMES)] = draw(st.integers(1, 2))
    dims = list(sizes) if draw(st.booleans()) else list(draw(st.permutations(list(sizes))))
    if rarely(draw, 20):
        dims.remove(draw(st.sampled_from(["band", "y", "x"])))
    values = draw(pixels(tuple(sizes[dim] for dim in dims)))
    if rarely(draw, 12):
        renamed, other = draw(st.sampled_from(dims)), draw(NAMES)
        dims = [other if dim == renamed and other not in dims else dim for dim in dims]
    scene = xr.DataArray(values, dims=dims, name=draw(st.sampled_from([None, "scene", "embedding", "x2"])))
    scene = draw(labelled(scene))
    scene.attrs = {
        name: draw(st.sampled_from(ODD[name]))
        for name in draw(st.sets(st.sampled_from(list(ODD)), max_size=3))
    }
    if "units" not in scene.attrs and draw(st.booleans()):
        scene.attrs["units"] = "DN"
    return draw(chunked(scene))


@st.composite
def labelled(draw: Any, scene: xr.DataArray) -> xr.DataArray:
    """The scene with coords: regular, irregular, absent, along its dims and beside them."""
    coords: dict[Any, Any] = {}
    for dim in ("y", "x"):
        if dim in scene.dims and not rarely(draw, 8):
            coords[dim] = draw(axis(scene.sizes[dim], dim))
    labels = draw(band_labels(scene.sizes["band"])) if scene.sizes.get("band") else None
    if labels is not None:
        coords["band"] = labels
    scene = scene.assign_coords(coords)
    if {"y", "x"} <= set(scene.coords) and not rarely(draw, 4):
        scene = scene.rio.write_crs(draw(st.sampled_from(WKTS)))
    beside: dict[str, Any] = {
        "cloud": 12.5,
        "D": 3,
        "layer": "last",
        "tile_y": 1.0,
        "spatial_ref": 0,
        "when": np.datetime64("NaT", "ns"),
        "thing": xr.Variable((), np.array({"a": 1}, dtype=object)),
    }
    for dim in scene.dims:
        beside[f"along {dim}"] = ([dim], [f"{n}" for n in range(scene.sizes[dim])])
    if {"y", "x"} <= set(scene.dims):
        beside["lat"] = (("y", "x"), np.zeros((scene.sizes["y"], scene.sizes["x"])))
    for name in draw(st.sets(st.sampled_from(list(beside)), max_size=2)) if rarely(draw, 2) else ():
        if name not in scene.dims:
            scene = scene.assign_coords({name: beside[name]})
    if "spatial_ref" in scene.coords and rarely(draw, 5):
        text = draw(st.sampled_from(["", "nonsense", "10 0 0 0 -10", "0 10 3 0 3 -10", "0 nan 0 0 0 nan", 5]))
        where = draw(st.sampled_from(["GeoTransform", "crs_wkt", "spatial_ref"]))
        scene.spatial_ref.attrs[where] = text
    return scene


@st.composite
def chunked(draw: Any, scene: xr.DataArray) -> xr.DataArray:
    """The scene in memory, or lazy in any chunks; now and then of unknown lengths."""
    if scene.dtype.kind == "O" or scene.size == 0 or draw(st.booleans()):
        return scene
    if rarely(draw, 12):
        unknown = scene.copy(data=da.from_array(scene.values, chunks=-1))
        unknown.data._chunks = ((np.nan,), *unknown.data.chunks[1:])
        return unknown
    chunks = {dim: draw(strategies.chunks(scene.sizes[dim])) for dim in scene.dims}
    return scene.copy(data=da.from_array(scene.values, chunks=tuple(chunks.values())))


def nodata_of(scene: xr.DataArray) -> tuple[float, ...]:
    """By the scene's attrs, worked out apart from the library."""
    names = ("_FillValue", "missing_value", "fill_value", "nodata", "nodatavals")
    stated = [scene.attrs[name] for name in names if scene.attrs.get(name) is not None]
    return tuple(float(one) for value in stated for one in np.ravel(value))


def outcome(scene: xr.DataArray, options: dict[str, Any]) -> str:
    with warnings.catch_warnings(action="ignore"):
        try:
            api.validate(scene, "probe")
        except RsEmbedError as error:
            refused: RsEmbedError | None = error
        else:
            refused = None
        try:
            embedding = xr_rsembed.embed(scene, "probe", weights="random", device="cpu", **options)
            embedding.compute(scheduler="synchronous")
        except RsEmbedError as error:
            if refused is not None and str(error) != str(refused):
                raise AssertionError(f"validate and embed refuse in other words: {refused}") from error
            return type(error).__name__
        assert refused is None, f"validate refused what embed took: {refused}"
        assert_contract(embedding, scene, nodata=nodata_of(scene))
        return "embedded"


def test_an_embedding_that_keeps_its_contract_or_an_error_of_ours():
    outcomes: Counter[str] = Counter()

    plain = xr.DataArray(np.full((12, 17, 2), 500, "uint16"), dims=("band", "y", "x"))
    plain = plain.assign_coords(
        band=list(fakes.S2), y=5e6 - 10.0 * np.arange(17), x=5e5 + 10.0 * np.arange(2)
    )

    @bounded
    @example(scene=plain, options={})
    @example(scene=plain.drop_vars("x"), options={})  # no place without both axes: the other counts pixels
    @given(
        scene=scenes(),
        options=st.fixed_dictionaries(
            {},
            optional={
                "overlap": strategies.overlaps,
                "blend": strategies.blends,
                "edge": strategies.edges,
            },
        ),
    )
    def check(scene: xr.DataArray, options: dict[str, Any]) -> None:
        outcomes[outcome(scene, options)] += 1

    check()
    assert not outcomes["BlockError"], "what cannot be embedded is said before a block is run"
    assert outcomes["embedded"] >= 2, outcomes
    assert len(outcomes) >= 3, outcomes


def test_what_files_and_catalogues_give_is_read_as_the_rules_say():
    """Attrs, encodings, labels, packing, axis directions and nodata: the true DN, and those of a slow reader."""

    @bounded
    @given(drawn=strategies.stored_scenes(), selected=st.booleans())
    def check(drawn: tuple[Any, np.ndarray], selected: bool) -> None:
        scene, truth = drawn
        with warnings.catch_warnings(action="ignore"):
            slow = slow_reader.read(scene)
            np.testing.assert_allclose(slow, truth, atol=0.51, rtol=1e-6)  # a file rounds to whole numbers
            if selected and isinstance(scene, xr.DataArray):
                order = np.random.default_rng(0).permutation(12)
                scene = scene.isel(band=order).rsembed.to_bands(MODEL)
            seen = xr_rsembed.api.normalize(scene, MODEL).transpose("band", "y", "x").values
            np.testing.assert_allclose(seen, np.nan_to_num(slow), atol=2e-3, rtol=2e-6)
            embedding = xr_rsembed.embed(scene, MODEL, device="cpu")
        grid = scene if isinstance(scene, xr.DataArray) else next(iter(scene.data_vars.values()))
        np.testing.assert_allclose(embedding, cell_means(slow, flipped(grid)), atol=5e-3, rtol=1e-5)

    check()


def cell_means(values: np.ndarray, turned: list[str]) -> np.ndarray:
    """Means of cells that count from the north-west; edge pixels fill the last ones; invalid pixels count as 0."""
    axes = tuple({"y": -2, "x": -1}[dim] for dim in turned)
    north_up = np.flip(values, axes)
    ends = [(0, -size % 16) for size in north_up.shape[-2:]]
    padded = np.pad(north_up, [(0, 0), *ends], mode="edge")
    real = np.pad(~np.isnan(north_up), [(0, 0), *ends])
    rows, columns = padded.shape[-2] // 16, padded.shape[-1] // 16
    cells = np.nan_to_num(padded).reshape(12, rows, 16, columns, 16).mean((2, 4))
    some = real.reshape(12, rows, 16, columns, 16).any((2, 4))
    return np.flip(np.where(some, cells, np.nan), axes)
