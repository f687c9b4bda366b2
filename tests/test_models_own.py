"""An encoder object of the user's own, from spec to embedding."""

from __future__ import annotations

import pickle

import dask
import numpy as np
import pytest
import torch

import xr_rsembed
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import EncoderError, OptionError
from xr_rsembed.models.own import from_encoder
from xr_rsembed.models.spec import Modality, Tokens
from xr_rsembed.normalize import Normalization

RGB = Modality("RGB", ("B4", "B3", "B2"), "DN", Normalization("scale", divisor=10000.0, source="DN / 10000"))


class MeanColour:
    """The mean colour of each patch."""

    modalities = RGB
    embed_dim = 3

    def __init__(self, gain=1.0):
        self.gain = gain

    def __call__(self, inputs, layers, options):
        return self.gain * inputs["RGB"].unfold(2, 16, 16).unfold(3, 16, 16).mean((-2, -1))


class WithVector(MeanColour):
    pooled = "cls"
    key = "with_vector"

    def __call__(self, inputs, layers, options):
        grid = super().__call__(inputs, layers, options)
        return Tokens(grid, grid.amax((-2, -1)))


@pytest.fixture
def scene():
    return synthetic_scene(size=(300, 500)).sel(band=["B4", "B3", "B2"])


def test_embeds_by_itself(scene):
    embedding = xr_rsembed.embed(scene, MeanColour()).compute()
    assert embedding.dims == ("D", "y", "x")
    assert embedding.attrs["model_key"] == "MeanColour"
    assert embedding.attrs["weights"].startswith("object MeanColour")
    pixels = scene.compute().values[:, :288, :496].reshape(3, 18, 16, 31, 16)
    np.testing.assert_allclose(embedding[:, :18, :31], pixels.mean((2, 4)) / 10000, rtol=1e-5)


def test_its_own_vector(scene):
    tiles = xr_rsembed.embed(scene, WithVector(), output="tiles").compute()
    grid = xr_rsembed.embed(scene, WithVector()).compute()
    np.testing.assert_allclose(tiles[:, 0, 0], grid[:, :14, :14].max(("y", "x")))


def test_two_objects_are_two_models(scene):
    plain, doubled = (xr_rsembed.embed(scene, MeanColour(gain)).compute() for gain in (1.0, 2.0))
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-6)


@pytest.mark.parametrize("output", ["grid", "tiles"])
def test_tokens_may_be_views_of_the_inputs(scene, output):
    """A batch's memory is written over by the next one, and only after its tokens have found their place."""

    class Corners(MeanColour):
        def __call__(self, inputs, layers, options):
            return inputs["RGB"][..., ::16, ::16]

    one, all_at_once = (
        xr_rsembed.embed(scene, Corners(), output=output, batch_size=size).compute() for size in (1, 8)
    )
    np.testing.assert_array_equal(one, all_at_once)
    assert len(np.unique(one)) > 10


def test_objects_travel_to_other_processes(scene):
    spec = from_encoder(MeanColour(3.0))
    again = pickle.loads(pickle.dumps(spec))
    assert again.brings == spec.brings
    assert again.load.encoder.gain == 3.0
    with dask.config.set(scheduler="processes", num_workers=1):
        there = xr_rsembed.embed(scene, spec).compute()
    np.testing.assert_allclose(there, xr_rsembed.embed(scene, spec).compute())


@pytest.mark.parametrize(
    "thing", [None, 3, ["terramind"], MeanColour, torch.nn.Identity(), lambda inputs: inputs]
)
def test_things_that_are_no_encoder(thing):
    with pytest.raises(EncoderError, match="neither a name nor an encoder"):
        from_encoder(thing)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (lambda x: x.numpy(), "a ndarray"),
        (lambda x: x[..., :5], r"found: +grid \(\d, 3, 14, 5\)"),
        (lambda x: x.int(), "int32"),
        (lambda x: x * torch.nan, "not finite"),
    ],
)
def test_broken_contracts_are_named_with_their_place(scene, result, said):
    class Broken(MeanColour):
        def __call__(self, inputs, layers, options):
            return result(super().__call__(inputs, layers, options))

    with pytest.raises(EncoderError, match=rf"(.|\n)*{said}(.|\n)*window: +y 0:300, x 0:500"):
        xr_rsembed.embed(scene, Broken()).compute()


def test_choices_that_an_object_leaves_no_room_for(scene):
    with pytest.raises(OptionError, match="brings its own weights"):
        xr_rsembed.embed(scene, MeanColour(), weights="random")
    with pytest.raises(OptionError, match="precision"):
        xr_rsembed.embed(scene, MeanColour(), precision="bfloat16").compute()
