"""Modalities that a model generates, as a lazy, georeferenced Dataset at the scene's resolution."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import dask.array as da
import numpy as np
import xarray as xr

from xr_rsembed import georef
from xr_rsembed.config import get_option
from xr_rsembed.engine import devices
from xr_rsembed.engine.embed import as_dask, is_lazy
from xr_rsembed.engine.feather import Drawing, draw_block, ramps
from xr_rsembed.engine.plan import average, map_tiles, query_planning_named, regular
from xr_rsembed.errors import OptionError, whole_number
from xr_rsembed.inputs.joint import Scenes
from xr_rsembed.inputs.read import read_scene
from xr_rsembed.inputs.record import Input
from xr_rsembed.inputs.scene import on_own_axes
from xr_rsembed.models.encoder import EncoderRequest, WeightsRef
from xr_rsembed.models.registry import families, find_spec
from xr_rsembed.models.spec import ModelSpec, Output
from xr_rsembed.models.weights import resolve
from xr_rsembed.tiling import Blocks, Edge, tile_blocks

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
    ref = resolve(weights, spec)
    drawers = resolve_tokenizers(tokenizers, outputs, ref, spec)
    names = tuple(item.pixels.modality for item in inputs)
    job = Drawing(
        spec=generator,
        request=EncoderRequest(
            generator.key, names, ref, device, options=(("timesteps", timesteps), ("tokenizers", drawers))
        ),
        inputs=tuple(item.pixels for item in inputs),
        outputs=tuple((name, len(_outputs(spec)[name].bands)) for name in outputs),
        overlap=overlap,
        seed=whole_number("seed", seed),
        origin=_origin(inputs[0].scene),
    )
    # Half as many tiles as for embeddings: a tile's images have ten times the bytes of its cells.
    tiles = max(1, int(get_option("block_tiles")) // 2)
    first = inputs[0].scene
    blocks = Blocks(
        *(
            tile_blocks(
                first.sizes[dim],
                overlap,
                edge,
                "mean",
                tiles=tiles,
                patch=spec.patch_size,
                size=spec.image_size,
            )
            for dim in ("y", "x")
        )
    )
    stack = _blend([as_dask(item.scene, blocks) for item in inputs], job, blocks, tiles)
    images = _label(stack, first, {name: _outputs(spec)[name] for name in outputs}, probabilities)
    images = images.map(on_own_axes, flipped=inputs[0].flipped)
    images.attrs = _record(inputs, spec, job, edge, drawers)
    if is_lazy(inputs):
        return images
    return devices.compute_here(images, blocks.tile_count(first.shape[:-3]), generator.key)


def _outputs(spec: ModelSpec) -> Mapping[str, Output]:
    return spec.generation.outputs if spec.generation is not None else {}


def generator_spec(spec: ModelSpec, outputs: Sequence[str], timesteps: int) -> ModelSpec:
    """A model as a generator, to be loaded as any other."""
    if spec.generation is None:
        able = [one.key for family in families() for one in family.specs if one.generation is not None]
        raise OptionError(f"{spec.key} generates no modalities.", found=spec.key, expected=" or ".join(able))
    known = _outputs(spec)
    if (
        isinstance(outputs, str)
        or not outputs
        or not set(outputs) <= set(known)
        or len(set(outputs)) < len(outputs)
    ):
        raise OptionError(
            "These modalities cannot be generated.",
            found=repr(outputs),
            expected=f"a list with some of {', '.join(known)}, each once",
        )
    if whole_number("timesteps", timesteps, at_least=1) > 1000:
        raise OptionError("timesteps is too large.", found=repr(timesteps), expected="an int from 1 to 1000")
    return replace(spec, key=f"{spec.key}_generate", load=cast("Any", spec.generation.load), declared={})


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
    known = _outputs(spec)
    return tuple(
        (name, resolve(by_output.get(name, "pretrained"), replace(spec, weights=known[name].weights)))
        for name in outputs
    )


def _origin(scene: xr.DataArray) -> tuple[int, int]:
    """Row and column of the first pixel on the lattice of its CRS: a scene cut at a tile keeps that tile's noise."""
    affine = georef.scene_geobox(scene).affine
    return round(affine.f / affine.e), round(affine.c / affine.a)


def _blend(sources: Sequence[da.Array], job: Drawing, blocks: Blocks, tiles: int) -> da.Array:
    """A lazy array (..., channel, y, x) of all outputs."""
    ranges = [[block.window for block in along] for along in (blocks.y, blocks.x)]
    rows, columns = (tuple(stop - start for start, stop in along) for along in ranges)
    most = (tiles * job.spec.image_size) ** 2
    sums = map_tiles(draw_block, job, sources, blocks, (job.channels,), (rows, columns), "float64", most=most)
    weights = [ramps(along, job.spec.image_size, job.overlap) for along in (blocks.y, blocks.x)]
    return regular(average(sums, ranges, weights, "float32"))


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
    job: Drawing,
    edge: Edge,
    drawers: Sequence[tuple[str, WeightsRef]],
) -> dict[str, Any]:
    """What was done, in plain values."""
    from xr_rsembed._version import __version__

    return {
        "Conventions": "CF-1.11",
        "title": f"Modalities imagined by {spec.key}",
        "comment": _CAUTION,
        "model": spec.family,
        "model_key": spec.key,
        "modality": [item.pixels.modality for item in inputs],
        "outputs": [name for name, _ in job.outputs],
        "weights": job.request.weights.source,
        "weights_sha256": job.request.weights.sha256,
        "tokenizer_weights": [ref.source for _, ref in drawers],
        "tokenizer_weights_sha256": [ref.sha256 for _, ref in drawers],
        "timesteps": job.request.option("timesteps"),
        "seed": job.seed,
        "overlap": job.overlap,
        "edge": edge,
        "tile_size": spec.image_size,
        "xr_rsembed_version": __version__,
    }
