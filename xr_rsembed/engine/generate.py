"""Modalities that a model generates, as a lazy, georeferenced Dataset at the scene's resolution."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xr_rsembed import georef
from xr_rsembed._version import __version__
from xr_rsembed.config import get_option
from xr_rsembed.engine import devices
from xr_rsembed.engine.block import Job
from xr_rsembed.engine.context import Seeds
from xr_rsembed.engine.embed import cells, is_lazy, scene_blocks
from xr_rsembed.engine.feather import load_drawing, pixel_cells, ramps
from xr_rsembed.engine.plan import query_planning_named
from xr_rsembed.engine.settings import Settings
from xr_rsembed.engine.windows import as_dask
from xr_rsembed.errors import OptionError, whole_number
from xr_rsembed.inputs.joint import Scenes
from xr_rsembed.inputs.read import read_scene
from xr_rsembed.inputs.record import Input
from xr_rsembed.inputs.scene import on_own_axes
from xr_rsembed.models.encoder import EncoderRequest, Layout, WeightsRef
from xr_rsembed.models.registry import families, find_spec
from xr_rsembed.models.spec import Generation, ModelSpec, Output
from xr_rsembed.models.weights import resolve
from xr_rsembed.tiling import Blocks, Edge

_NO_CLASS = 255
_CAUTION = "Imagined by a generative model from the input scene. Not an observation, and no measurement of this place."


@query_planning_named()
def generate(
    scene: xr.DataArray | Scenes,
    outputs: Sequence[str],
    model: str = "terramind",
    *,
    modality: str | None = None,
    modalities: Mapping[str, str] | Sequence[str] | None = None,
    timesteps: int = 10,
    overlap: int = 64,
    edge: Edge = "shift",
    seed: int = 0,
    probabilities: bool = False,
    device: str = "auto",
    weights: str | os.PathLike[str] = "pretrained",
    tokenizers: str | Mapping[str, Any] | None = None,
    units: Any = None,
) -> xr.Dataset:
    """Let TerraMind imagine other modalities of a scene.

    What comes out are the model's mental images: plausible for the input, never observed. An imagined elevation or
    backscatter is no measurement, and two seeds give two different, equally plausible images.

    Parameters
    ----------
    scene : DataArray, Dataset or mapping of DataArrays
        As for :func:`xr_rsembed.embed`.
    outputs : sequence of str
        Some of S2L2A, S1GRD, S1RTC, DEM, NDVI, LULC. They are imagined in this order, each seeing those before.
    model : str
        A TerraMind version 1 key.
    modality, modalities, units
        As for :func:`xr_rsembed.embed`.
    timesteps : int
        Diffusion steps of each image; the cost grows with them.
    overlap : int
        Pixels that neighbouring tiles share, a multiple of 16 below 224, over which one tile fades into the next.
    edge : {"shift", "pad"}
        The last tile moves inward, or keeps its place and sees repeated edge pixels.
    seed : int
        Of the noise. A tile's noise depends on this number and its place on the map alone.
    probabilities : bool
        Also give the probability of each land cover class, as ``LULC_probability``.
    device : str
        ``auto`` takes a CUDA device where there is one.
    weights : {"pretrained", "random"} or path
        Of the model.
    tokenizers : {"pretrained", "random"} or mapping, optional
        Weights of the tokenizers that draw the images, a mapping by output. By default random where ``weights`` are.

    Returns
    -------
    Dataset
        One variable for each output, dims (..., y, x), or (..., <name>_band, y, x) where it has several bands; float32
        in the units that its attrs say, and uint8 class codes with ``flag_values`` and ``flag_meanings`` for LULC. NaN
        (255 for LULC) where the scene has no valid pixel. Lazy where the scene is; compute the variables together,
        because they share their work.

    Raises
    ------
    SceneError, GridError, BandOrderError, UnitsError
        If the scene is no input of the model.
    OptionError, UnknownModelError, WeightsError, DeviceError
        If a setting cannot be used.

    Examples
    --------
    >>> from xr_rsembed.datasets import synthetic_scene
    >>> scene = synthetic_scene(size=(448, 448), chunks=224)
    >>> images = generate(scene, ["LULC", "DEM"], model="terramind_v1_tiny", weights="random")
    >>> images.LULC.dtype, images.DEM.dims, images.DEM.attrs["units"]
    (dtype('uint8'), ('y', 'x'), 'm')
    """
    spec = find_spec(model)
    generator = generator_spec(spec, outputs, timesteps)
    inputs, _ = read_scene(scene, spec, {}, modality=modality, modalities=modalities, units=units)
    devices.check_device(device)
    seed = whole_number("seed", seed)
    ref = resolve(weights, spec)
    drawers = resolve_tokenizers(tokenizers, outputs, ref, spec)
    names = tuple(item.pixels.modality for item in inputs)
    made = {name: _generation(spec).outputs[name] for name in outputs}
    channels = tuple((name, len(output.bands)) for name, output in made.items())
    job = Job(
        generator,
        EncoderRequest(
            generator.key, names, ref, device, options=(("timesteps", timesteps), ("tokenizers", drawers))
        ),
        tuple(item.pixels for item in inputs),
        Layout(sum(number for _, number in channels)),
        # The generator goes through a batch tile by tile anyhow, and takes long for each.
        Settings(overlap=overlap, edge=edge, blend="mean", batch_size=1, device=device),
        # Half as many tiles as for embeddings: a tile's images have ten times the bytes of its cells.
        max(1, get_option("block_tiles") // 2),
        (("outputs", channels), ("overlap", overlap)),
        _seeds(seed, inputs[0].scene),
    )
    first = inputs[0].scene
    patches = scene_blocks(first, replace(job, spec=spec))
    blocks = Blocks(tuple(map(pixel_cells, patches.y)), tuple(map(pixel_cells, patches.x)))
    stack = cells(
        [as_dask(item.scene, blocks) for item in inputs], job, blocks, partial(ramps, overlap=overlap)
    )
    images = _label(stack, first, made, probabilities)
    images = images.map(on_own_axes, flipped=inputs[0].flipped)
    images.attrs = {**_record(inputs, spec, job, drawers), "outputs": list(outputs), "seed": seed}
    if is_lazy(inputs):
        return images
    return devices.compute_here(images, blocks.tile_count(first.shape[:-3]), generator.key)


def _generation(spec: ModelSpec) -> Generation:
    if spec.generation is None:
        able = [one.key for family in families() for one in family.specs if one.generation is not None]
        raise OptionError(f"{spec.key} generates no modalities.", found=spec.key, expected=" or ".join(able))
    return spec.generation


def generator_spec(spec: ModelSpec, outputs: Sequence[str], timesteps: int) -> ModelSpec:
    """A model as a generator, to be loaded and run as an encoder is: with patches of one pixel."""
    generation = _generation(spec)
    known, several = generation.outputs, not isinstance(outputs, str) and len(outputs)
    if not several or not set(outputs) <= set(known) or len(set(outputs)) < len(outputs):
        raise OptionError(
            "These modalities cannot be generated.",
            found=repr(outputs),
            expected=f"a list with some of {', '.join(known)}, each once",
        )
    if whole_number("timesteps", timesteps, at_least=1) > 1000:
        raise OptionError("timesteps is too large.", found=repr(timesteps), expected="an int from 1 to 1000")
    load = partial(load_drawing, generation.load)
    return replace(spec, key=f"{spec.key}_generate", load=load, declared={}, patch_size=1)


def resolve_tokenizers(
    choice: str | Mapping[str, Any] | None, outputs: Sequence[str], weights: WeightsRef, spec: ModelSpec
) -> tuple[tuple[str, WeightsRef], ...]:
    """The weights of each output's tokenizer; those that a mapping leaves out are pretrained."""
    if choice is None:
        choice = "random" if weights.kind == "random" else "pretrained"
    by_output = choice if isinstance(choice, Mapping) else dict.fromkeys(outputs, choice)
    if unknown := set(by_output) - set(outputs):
        raise OptionError(
            "tokenizers= names what is not generated.",
            found=", ".join(sorted(unknown)),
            expected=f"some of {', '.join(outputs)}",
        )
    known = _generation(spec).outputs
    return tuple(
        (name, resolve(by_output.get(name, "pretrained"), replace(spec, weights=known[name].weights)))
        for name in outputs
    )


def _seeds(seed: int, scene: xr.DataArray) -> Seeds:
    """Of the first pixel's place on the lattice of its CRS: a scene cut at a tile keeps that tile's noise."""
    affine = georef.scene_geobox(scene).affine
    return Seeds(seed, round(affine.f / affine.e), round(affine.c / affine.a))


def _label(
    stack: da.Array, scene: xr.DataArray, outputs: Mapping[str, Output], probabilities: bool
) -> xr.Dataset:
    """Variables, dims, coords and CF attrs for the stacked channels."""
    coords = georef.geobox_coords(georef.scene_geobox(scene)) | {
        name: coord.variable
        for name, coord in scene.coords.items()
        if not {"band"} & {*coord.dims, name} and name != "spatial_ref"
    }
    variables: dict[str, xr.DataArray] = {}
    first = 0
    for name, output in outputs.items():
        last = first + len(output.bands)
        variables |= _variables(name, output, stack[..., first:last, :, :], scene, coords, probabilities)
        first = last
    for variable in variables.values():
        if "spatial_ref" in coords:
            variable.encoding["grid_mapping"] = "spatial_ref"
    return xr.Dataset(variables)


def _variables(
    name: str,
    output: Output,
    images: da.Array,
    scene: xr.DataArray,
    coords: Mapping[Any, Any],
    probabilities: bool,
) -> dict[str, xr.DataArray]:
    """One output as a variable, or, of classes, as codes and their probabilities."""
    attrs = {"long_name": f"imagined {output.long_name}", "units": output.units, "modality": name}
    if output.standard_name:
        attrs["standard_name"] = output.standard_name
    attrs["comment"] = _CAUTION

    def variable(values: da.Array, dim: str | None = None, **more: Any) -> xr.DataArray:
        labels = {} if dim is None else {dim: list(output.bands)}
        dims = (*scene.dims[:-3], *labels, "y", "x")
        return xr.DataArray(values, {**coords, **labels}, dims, attrs=attrs | more)

    if not output.classes:
        single = len(output.bands) == 1
        return {name: variable(images[..., 0, :, :]) if single else variable(images, f"{name}_band")}
    codes = da.map_blocks(_classes, images, drop_axis=images.ndim - 3, dtype="uint8")
    flags: dict[str, Any] = {
        "flag_values": np.arange(len(output.bands), dtype="uint8"),
        "flag_meanings": " ".join(output.bands),
        "_FillValue": np.uint8(_NO_CLASS),
    }
    made = {name: variable(codes, **flags)}
    if probabilities:
        title = f"imagined probability of each {output.long_name} class"
        made[f"{name}_probability"] = variable(images, f"{name}_class", long_name=title)
    return made


def _classes(probabilities: np.ndarray) -> np.ndarray:
    """The code of the likeliest class, 255 where there is none."""
    nothing = np.isnan(probabilities[..., 0, :, :])
    return np.where(nothing, _NO_CLASS, probabilities.argmax(axis=-3)).astype("uint8")


def _record(
    inputs: Sequence[Input],
    spec: ModelSpec,
    job: Job,
    drawers: Sequence[tuple[str, WeightsRef]],
) -> dict[str, Any]:
    """What was done, in plain values."""
    return {
        "Conventions": "CF-1.11",
        "title": f"Modalities imagined by {spec.key}",
        "comment": _CAUTION,
        "model": spec.family,
        "model_key": spec.key,
        "modality": [item.pixels.modality for item in inputs],
        "weights": job.request.weights.source,
        "weights_sha256": job.request.weights.sha256,
        "tokenizer_weights": [ref.source for _, ref in drawers],
        "tokenizer_weights_sha256": [ref.sha256 for _, ref in drawers],
        "timesteps": job.request.option("timesteps"),
        "overlap": job.settings.overlap,
        "edge": job.settings.edge,
        "tile_size": spec.image_size,
        "xr_rsembed_version": __version__,
    }
