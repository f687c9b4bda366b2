"""Modalities that TerraMind imagines, as a lazy, georeferenced Dataset at the scene's resolution."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xr_rsembed import georef
from xr_rsembed.config import get_option
from xr_rsembed.engine import devices
from xr_rsembed.engine.embed import as_dask
from xr_rsembed.engine.feather import Drawing, draw_block, ramps
from xr_rsembed.engine.plan import Shared, average, map_tiles, regular
from xr_rsembed.errors import OptionError
from xr_rsembed.inputs.joint import Scenes
from xr_rsembed.inputs.read import read_scene
from xr_rsembed.inputs.record import Input
from xr_rsembed.inputs.scene import laid_back
from xr_rsembed.models.registry import find_spec
from xr_rsembed.models.spec import EncoderRequest, ModelSpec, WeightsRef
from xr_rsembed.models.terramind.generate import LULC_CLASSES, OUTPUTS, generator_spec, resolve_tokenizers
from xr_rsembed.models.weights import resolve
from xr_rsembed.tiling import AxisBlock, Edge, tile_blocks

__all__ = ["generate"]

_NO_CLASS = 255
_CAUTION = "Imagined by a generative model from the input scene. Not an observation, and no measurement of this place."


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
    request = EncoderRequest(
        generator.key, names, ref, device, options=(("timesteps", timesteps), ("tokenizers", drawers))
    )
    job = Drawing(
        spec=generator,
        request=request,
        inputs=tuple(item.pixels for item in inputs),
        outputs=tuple((name, len(OUTPUTS[name].bands)) for name in outputs),
        overlap=overlap,
        seed=_whole(seed),
        origin=_origin(inputs[0].scene),
    )
    rows, columns = (_axis_blocks(inputs[0].scene.sizes[dim], overlap, edge, spec) for dim in ("y", "x"))
    stack = _blend([as_dask(item.scene, rows, columns) for item in inputs], job, rows, columns)
    images = _label(stack, inputs[0].scene, outputs, probabilities)
    images = images.map(laid_back, flipped=inputs[0].flipped)
    images.attrs = _record(inputs, spec, request, job, edge, drawers)
    if any(item.scene.chunks is not None for item in inputs):
        return images
    number = math.prod(inputs[0].scene.shape[:-3])
    for axes in (rows, columns):
        number *= sum(len(axis.starts) for axis in axes)
    return devices.compute_here(images, number, generator.key)


def _whole(seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise OptionError("seed is a whole number.", found=repr(seed), expected="an int such as 0")
    return int(seed)


def _block_tiles() -> int:
    """Half as many as for embeddings: a tile's images have ten times the bytes of its cells."""
    return max(1, int(get_option("block_tiles")) // 2)


def _axis_blocks(pixels: int, overlap: int, edge: Edge, spec: ModelSpec) -> tuple[AxisBlock, ...]:
    return tile_blocks(
        pixels, overlap, edge, "mean", tiles=_block_tiles(), patch=spec.patch_size, size=spec.image_size
    )


def _origin(scene: xr.DataArray) -> tuple[int, int]:
    """Row and column of the first pixel on the lattice of its CRS: a scene cut at a tile keeps that tile's noise."""
    affine = georef.scene_geobox(scene).affine
    return round(affine.f / affine.e), round(affine.c / affine.a)


def _blend(
    sources: Sequence[da.Array], job: Drawing, rows: tuple[AxisBlock, ...], columns: tuple[AxisBlock, ...]
) -> da.Array:
    """A lazy array (..., channel, y, x) of all outputs."""
    ranges = [[block.window for block in blocks] for blocks in (rows, columns)]
    rows_long, columns_long = (tuple(stop - start for start, stop in along) for along in ranges)
    shared = Shared(draw_block, job, rows, columns, (_block_tiles() * job.spec.image_size) ** 2)
    sums = map_tiles(sources, shared, (job.channels,), (rows_long, columns_long), "float64")
    weights = [ramps(blocks, job.spec.image_size, job.overlap) for blocks in (rows, columns)]
    return regular(average(sums, ranges, weights, "float32"))


def _label(stack: da.Array, scene: xr.DataArray, outputs: Sequence[str], probabilities: bool) -> xr.Dataset:
    """Variables, dims, coords and CF attrs for the stacked channels."""
    coords = georef.geobox_coords(georef.scene_geobox(scene)) | {
        name: coord.variable
        for name, coord in scene.coords.items()
        if not {"band"} & {*coord.dims, name} and name != "spatial_ref"
    }
    variables: dict[str, xr.DataArray] = {}
    first = 0
    for name in outputs:
        number = len(OUTPUTS[name].bands)
        images = stack[..., first : first + number, :, :]
        first += number
        variables |= _variables(name, images, scene.dims[:-3], coords, probabilities)
    for variable in variables.values():
        if "spatial_ref" in coords:
            variable.encoding["grid_mapping"] = "spatial_ref"
    return xr.Dataset(variables)


def _variables(
    name: str, images: da.Array, leading: tuple[Any, ...], coords: Mapping[Any, Any], probabilities: bool
) -> dict[str, xr.DataArray]:
    output = OUTPUTS[name]
    attrs = {"long_name": f"imagined {output.long_name}", "units": output.units, "modality": name}
    if output.standard_name:
        attrs["standard_name"] = output.standard_name
    attrs["comment"] = _CAUTION
    if name == "LULC":
        codes = da.map_blocks(_classes, images, drop_axis=images.ndim - 3, dtype="uint8")
        flags = {
            "flag_values": np.arange(len(LULC_CLASSES), dtype="uint8"),
            "flag_meanings": " ".join(LULC_CLASSES),
            "_FillValue": np.uint8(_NO_CLASS),
        }
        made = {name: xr.DataArray(codes, coords, (*leading, "y", "x"), attrs=attrs | flags)}
        if probabilities:
            attrs["long_name"] = "imagined probability of each land use and land cover class"
            dims = (*leading, "LULC_class", "y", "x")
            made["LULC_probability"] = xr.DataArray(
                images, {**coords, "LULC_class": list(LULC_CLASSES)}, dims, attrs=attrs
            )
        return made
    if len(output.bands) == 1:
        return {name: xr.DataArray(images[..., 0, :, :], coords, (*leading, "y", "x"), attrs=attrs)}
    band = f"{name}_band"
    return {
        name: xr.DataArray(
            images, {**coords, band: list(output.bands)}, (*leading, band, "y", "x"), attrs=attrs
        )
    }


def _classes(probabilities: np.ndarray) -> np.ndarray:
    """The code of the likeliest class, 255 where there is none."""
    nothing = np.isnan(probabilities[..., 0, :, :])
    return np.where(nothing, _NO_CLASS, probabilities.argmax(axis=-3)).astype("uint8")


def _record(
    inputs: Sequence[Input],
    spec: ModelSpec,
    request: EncoderRequest,
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
        "weights": request.weights.source,
        "weights_sha256": request.weights.sha256,
        "tokenizer_weights": [ref.source for _, ref in drawers],
        "tokenizer_weights_sha256": [ref.sha256 for _, ref in drawers],
        "timesteps": request.option("timesteps"),
        "seed": job.seed,
        "overlap": job.overlap,
        "edge": edge,
        "tile_size": spec.image_size,
        "xr_rsembed_version": __version__,
    }
