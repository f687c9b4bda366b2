"""Models of one's own under every scheduler: objects that travel, specs that change, and broken ones named by tile."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import xr_rsembed
from tests import fakes, joint
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import BlockError, EncoderError, OptionError
from xr_rsembed.models.own import from_encoder
from xr_rsembed.models.spec import Modality, Tokens
from xr_rsembed.normalize import Normalization

BANDS = ("B4", "B3", "B2")
COLOUR = Modality("colour", BANDS, "DN", Normalization("scale", divisor=10000.0, source="DN / 10000"))


class Net(torch.nn.Module):
    """A network with weights of a megabyte, and dropout that must not be in force."""

    modalities = COLOUR
    embed_dim = 6

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.first = torch.nn.Conv2d(3, 340, 16, 16)
        self.second = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Conv2d(340, 6, 1))

    def forward(self, inputs, layers, options):
        return self.second(self.first(inputs["colour"]))


@dataclass
class Plain:
    """Neither hashable nor a torch module."""

    gain: float
    modalities: Modality = COLOUR
    embed_dim: int = 3

    def __call__(self, inputs, layers, options):
        return self.gain * torch.nn.functional.avg_pool2d(inputs["colour"], 16)


@pytest.fixture(scope="module")
def scene():
    return synthetic_scene((460, 470), chunks=200).sel(band=list(BANDS))


def expected(net: Net, pixels: np.ndarray) -> np.ndarray:
    """Convolutions of stride 16 know no tiles; edge pixels are repeated to whole patches."""
    padded = np.pad(pixels / np.float32(10000), ((0, 0), (0, 4), (0, 10)), mode="edge")
    with torch.inference_mode():
        return net.eval()({"colour": torch.from_numpy(padded)[None]}, (), {})[0].numpy()


def test_a_torch_module_under_threads(scene):
    net = Net()
    wanted = expected(net, scene.values)
    net.train()
    with xr_rsembed.set_options(block_tiles=1):
        found = xr_rsembed.embed(scene, net, device="cpu").compute(scheduler="threads")
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_torch_module_on_a_cluster(scene):
    distributed = pytest.importorskip("distributed")
    net = Net()
    with xr_rsembed.set_options(block_tiles=1):
        lazy = xr_rsembed.embed(scene, net, device="cpu")
    tasks = dict(lazy.data.dask)
    blocks = [pickle.dumps(task) for key, task in tasks.items() if key[0] == lazy.data.name]
    assert len(blocks) == 9
    assert max(map(len, blocks)) < 10_000, "the module must travel once, not with every block"
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        found = lazy.compute()
    np.testing.assert_allclose(found, expected(net, scene.values), rtol=1e-4, atol=1e-5)


def test_objects_are_pickled_with_their_spec():
    spec = from_encoder(Plain(3.0))
    again = pickle.loads(pickle.dumps(spec))
    assert again.weights == spec.weights
    assert again.load.encoder.gain == 3.0


@pytest.mark.parametrize("thing", [None, 3, ["terramind"], Plain, torch.nn.Identity(), lambda inputs: inputs])
def test_things_that_are_no_encoder(thing):
    with pytest.raises(EncoderError, match="neither a name nor an encoder"):
        from_encoder(thing)


def test_choices_that_an_object_leaves_no_room_for(scene):
    with pytest.raises(OptionError, match="has its own weights"):
        xr_rsembed.embed(scene, Plain(1.0), weights="random")
    with pytest.raises(OptionError, match="precision"):
        xr_rsembed.embed(scene, Plain(1.0), precision="bfloat16").compute()


def test_its_own_vector(scene):
    class WithVector(Plain):
        pooled = "cls"
        key = "with_vector"

        def __call__(self, inputs, layers, options):
            grid = super().__call__(inputs, layers, options)
            return Tokens(grid, grid.amax((-2, -1)))

    tiles = xr_rsembed.embed(scene, WithVector(1.0), output="tiles").compute()
    grid = xr_rsembed.embed(scene, WithVector(1.0)).compute()
    assert grid.attrs["model_key"] == "with_vector"
    np.testing.assert_allclose(tiles[:, 0, 0], grid[:, :14, :14].max(("y", "x")))


def test_what_its_vector_is_taken_from_is_one_of_two_words():
    class Loudest(Plain):
        pooled = "max"

    with pytest.raises(OptionError, match="pooled"):
        from_encoder(Loudest(1.0))


@pytest.mark.parametrize("output", ["grid", "tiles"])
def test_tokens_may_be_views_of_the_inputs(scene, output):
    """A batch's memory is written over by the next one, and only after its tokens have found their place."""

    class Corners(Plain):
        def __call__(self, inputs, layers, options):
            return inputs["colour"][..., ::16, ::16]

    one, all_at_once = (
        xr_rsembed.embed(scene, Corners(1.0), output=output, batch_size=size).compute() for size in (1, 8)
    )
    np.testing.assert_array_equal(one, all_at_once)
    assert len(np.unique(one)) > 10


def test_an_object_that_changes_between_calls(scene):
    encoder = Plain(1.0)
    first = xr_rsembed.embed(scene, encoder)
    name = first.data.name
    first = first.compute()
    assert first.attrs["model_key"] == "Plain"
    assert first.attrs["weights"].startswith("object Plain")
    encoder.gain = 3.0
    second = xr_rsembed.embed(scene, encoder)
    assert second.data.name != name
    np.testing.assert_allclose(second.compute(), 3 * first, rtol=1e-6)


def load_halves(spec, request):
    return lambda inputs, layers, options: Tokens(fakes.Probe()(inputs, layers, options).grid * 0.5)


def test_a_spec_is_a_model_and_two_of_one_key_are_kept_apart(scene):
    whole = replace(fakes.SPEC, key="mine", modalities=(replace(COLOUR, bands=BANDS),))
    half = replace(whole, load=load_halves)
    arguments = {"weights": "random", "device": "cpu"}
    one, other, again = (
        xr_rsembed.embed(scene, spec, **arguments).compute() for spec in (whole, half, whole)
    )
    assert one.attrs["model_key"] == "mine"
    np.testing.assert_allclose(other, one / 2, rtol=1e-6)
    np.testing.assert_array_equal(again, one)


def test_an_object_that_takes_several_modalities():
    class Both:
        modalities = joint.SPEC.modalities[:2]
        embed_dim = 2
        joint = True

        def __call__(self, inputs, layers, options):
            pooled = [torch.nn.functional.avg_pool2d(image[:, :1], 16) for image in inputs.values()]
            return torch.cat([sum(pooled), torch.full_like(pooled[0], len(inputs))], dim=1)

    scenes = {name: synthetic_scene((224, 448), modality=name) for name in ("S2L2A", "S1GRD")}
    scenes["S1GRD"] = scenes["S1GRD"].where(scenes["S1GRD"].x < scenes["S1GRD"].x[224])
    scenes["S1GRD"].attrs["units"] = "dB"
    found = xr_rsembed.embed(scenes, Both(), device="cpu")
    np.testing.assert_array_equal(found[1, 0], np.repeat([2.0, 1.0], 14))


class Broken(Plain):
    """Gives NaN for the tiles that hold a marked pixel."""

    def __call__(self, inputs, layers, options):
        grid = super().__call__(inputs, layers, options)
        marked = (inputs["colour"] == 6.5).flatten(1).any(1)
        grid[marked, 1, 3, 4] = torch.nan
        return grid


@pytest.mark.parametrize(
    ("options", "corner"),
    [
        ({}, "y 224, x 0"),
        ({"overlap": 112, "blend": "mean"}, ".*y (112|224), x 0"),
        ({"density": 2}, r"y (232|224), x [08]"),
        ({"output": "tiles"}, r"y (224|240), x 0"),
    ],
)
@pytest.mark.parametrize("block_tiles", [1, 8])
def test_nan_is_named_by_its_tile(scene, options, corner, block_tiles):
    marked = scene.astype("float32").compute()
    marked[:, 300, 100] = 65000.0
    with (
        xr_rsembed.set_options(block_tiles=block_tiles),
        pytest.raises(
            EncoderError,
            match=rf"NaN(.|\n)*(tile that begins|one of the tiles that begin) at ({corner})(.|\n)*window:",
        ),
    ):
        xr_rsembed.embed(marked, Broken(1.0), device="cpu", **options)


def test_nan_where_nothing_is_valid_is_no_fault(scene):
    class OfInvalid(Plain):
        def __call__(self, inputs, layers, options):
            grid = super().__call__(inputs, layers, options)
            return torch.where(grid == 0, torch.nan, grid)

    holed = scene.astype("float32").compute()
    holed[:, :160, :96] = np.nan
    found = xr_rsembed.embed(holed, OfInvalid(1.0), device="cpu")
    assert np.isnan(found[:, :10, :6]).all()
    assert np.isfinite(found[:, 10:, 6:]).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda grid: grid[:, :2], r"grid \(\d+, 2, 14, 14\)"),
        (lambda grid: grid[:1, :, :7], r"grid \(\d+, 3, 7, 14\)"),
        (lambda grid: grid.long(), "int64"),
        (lambda grid: grid.numpy(), "ndarray"),
        (lambda grid: None, "NoneType"),
        (lambda grid: {"grid": grid}, "dict"),
    ],
)
def test_what_breaks_the_contract_is_named(scene, change, said):
    class Wrong(Plain):
        def __call__(self, inputs, layers, options):
            return change(super().__call__(inputs, layers, options))

    with pytest.raises(
        EncoderError, match=rf"Wrong broke its contract(.|\n)*{said}(.|\n)*window: +y 0:460, x 0:470"
    ):
        xr_rsembed.embed(scene, Wrong(1.0), device="cpu").compute()


def test_what_an_encoder_raises_is_kept(scene):
    class Raising(Plain):
        def __call__(self, inputs, layers, options):
            raise ArithmeticError("my own trouble")

    with pytest.raises(BlockError, match=r"ArithmeticError: my own trouble(.|\n)*window:") as raised:
        xr_rsembed.embed(scene, Raising(1.0), device="cpu").compute()
    assert isinstance(raised.value.__cause__, ArithmeticError)


def test_reproduce_asks_for_the_object(scene):
    first = xr_rsembed.embed(scene, Plain(2.0), device="cpu").compute()
    again = xr_rsembed.reproduce(first, scene, model=Plain(2.0))
    np.testing.assert_array_equal(again.compute(), first)
    with pytest.raises(xr_rsembed.RsEmbedError, match=r"reproduce\(.*model="):
        xr_rsembed.reproduce(first, scene)
