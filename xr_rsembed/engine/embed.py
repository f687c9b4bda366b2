"""The pipeline of one embedding: plan, map blocks, label, record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xr_rsembed import georef
from xr_rsembed.config import get_option
from xr_rsembed.crs import grid_mapping
from xr_rsembed.engine import devices
from xr_rsembed.engine.attrs import record
from xr_rsembed.engine.block import Job, run_block
from xr_rsembed.engine.context import origin_of
from xr_rsembed.engine.plan import average, join_blocks, map_tiles, query_planning_named, regular
from xr_rsembed.engine.presence import count_missing
from xr_rsembed.engine.settings import Settings
from xr_rsembed.engine.windows import as_dask
from xr_rsembed.errors import OptionError, warn
from xr_rsembed.inputs.record import Input
from xr_rsembed.inputs.scene import on_own_axes
from xr_rsembed.models.encoder import EncoderRequest, Layout, WeightsRef, freeze
from xr_rsembed.models.precision import layer_indices
from xr_rsembed.models.spec import ModelSpec
from xr_rsembed.tiling import AxisBlock, Blocks, coverage, tile_blocks


@query_planning_named()
def embed_inputs(
    inputs: tuple[Input, ...],
    spec: ModelSpec,
    settings: Settings,
    weights: WeightsRef,
    options: Mapping[str, Any],
) -> xr.DataArray:
    """Embed checked inputs on one grid, one per modality, with the complete model options.

    Lazy if any input is a dask array, else computed. Several modalities that are computed at once are counted in
    attrs: ``tiles``, and ``tiles_without`` each of them. Of a lazy result they are not known before every pixel is;
    :func:`xr_rsembed.count_missing` reads them.
    """
    job = plan_job(inputs, spec, settings, weights, options)
    scene = inputs[0].scene
    blocks = scene_blocks(scene, job)
    _warn(scene, spec, settings)
    sources = [as_dask(item.scene, blocks) for item in inputs]
    values = (cells if settings.output == "grid" else _tiles)(sources, job, blocks)
    labelled = _label(values, scene, job, blocks)
    labelled.attrs = record(inputs, job, options)
    labelled = on_own_axes(labelled, inputs[0].flipped)
    if is_lazy(inputs):
        return labelled
    if len(inputs) > 1:
        labelled.attrs |= count_missing(inputs, blocks)
    return devices.compute_here(labelled, blocks.tile_count(scene.shape[:-3]), spec.key)


def by_modality(embedding: xr.DataArray) -> xr.Dataset:
    """The modalities as variables, slices of one array."""
    named = {str(name): embedding.sel(modality=name, drop=True) for name in embedding["modality"].values}
    return xr.Dataset(named, attrs=embedding.attrs)


def scene_blocks(scene: xr.DataArray, job: Job) -> Blocks:
    """The blocks of a scene along y and x."""
    return Blocks(_axis_blocks(scene.sizes["y"], job), _axis_blocks(scene.sizes["x"], job))


def _axis_blocks(pixels: int, job: Job) -> tuple[AxisBlock, ...]:
    settings, spec = job.settings, job.spec
    if settings.input_prep == "resize":
        cells = (0, spec.image_size // spec.patch_size)
        return (AxisBlock((0,), (cells,), cells, (0, pixels), (0, pixels)),)
    return tile_blocks(
        pixels,
        settings.overlap,
        settings.edge,
        settings.blend if settings.output == "grid" else "center",
        settings.density,
        tiles=job.block_tiles,
        patch=spec.patch_size,
        size=spec.image_size,
    )


def plan_job(
    inputs: tuple[Input, ...],
    spec: ModelSpec,
    settings: Settings,
    weights: WeightsRef,
    options: Mapping[str, Any],
) -> Job:
    """Everything that all blocks share; checks the layers, the device and the model options."""
    modalities = tuple(item.pixels.modality for item in inputs)
    layer_indices(settings.layers, spec.depth, spec.key)
    if spec.patch_size % settings.density:
        raise OptionError(
            f"The patches of {spec.key} cannot be shifted by a {settings.density}th of their size.",
            found=f"density={settings.density}, patches of {spec.patch_size} pixels",
            expected=f"a divisor of {spec.patch_size}",
        )
    devices.check_device(settings.device)
    settings = replace(settings, precision=devices.resolve_precision(settings.precision, settings.device))
    spec.check_options(modalities, options)
    asked = settings.layer if isinstance(settings.layer, tuple) else None
    load = tuple(sorted((name, freeze(options[name])) for name in spec.load_options if name in options))
    call = tuple(
        sorted((name, freeze(value)) for name, value in options.items() if name not in spec.load_options)
    )
    request = EncoderRequest(spec.key, modalities, weights, settings.device, settings.precision, load)
    layout = spec.layout(spec, modalities, asked, options)
    origin = origin_of(inputs[0].scene, spec.needs(options), spec.key)
    pixels = tuple(item.pixels for item in inputs)
    return Job(spec, request, pixels, layout, settings, get_option("block_tiles"), call, origin)


def cells(
    sources: list[da.Array],
    job: Job,
    blocks: Blocks,
    weights: Callable[[Sequence[AxisBlock]], np.ndarray] = coverage,
) -> da.Array:
    """The values of all cells, shape (..., *layout.shape, y, x).

    ``weights`` gives the sum of all tiles' weights along an axis, by which sums over tiles are divided.
    """
    settings, along = job.settings, (blocks.y, blocks.x)
    lengths = (tuple(map(len, blocks.y)), tuple(map(len, blocks.x)))
    dtype = "float64" if settings.sums else settings.out_dtype
    values = map_tiles(
        run_block, job, sources, blocks, job.layout.shape, lengths, dtype, most=job.most_pixels
    )
    ranges = [[block.cells for block in one] for one in along]
    if settings.sums:
        return regular(average(values, ranges, [weights(one) for one in along], settings.out_dtype))
    return regular(join_blocks(values, ranges))


def _tiles(sources: list[da.Array], job: Job, blocks: Blocks) -> da.Array:
    """A vector for each tile, shape (..., *layout.shape, y, x), or one for the scene, (..., *layout.shape)."""
    *outer, depth = job.layout.shape
    parts, dtype = job.layout.parts_in_depth, job.settings.out_dtype
    inner = (*outer, depth + parts)
    weighted = map_tiles(run_block, job, sources, blocks, inner, blocks.tiles, dtype, most=job.most_pixels)
    if job.settings.output == "pooled":
        return _pooled(weighted, job.layout, dtype)
    return regular(weighted)[..., :-parts, :, :]


def _label(values: da.Array, scene: xr.DataArray, job: Job, blocks: Blocks) -> xr.DataArray:
    """Dims and coords for the values of all blocks."""
    leading = scene.dims[:-3]
    extra = {dim: list(labels) for dim, labels in job.layout.extra}
    geobox = georef.scene_geobox(scene)
    spatial, coords = _spatial(geobox, job, blocks)
    mapping = grid_mapping(scene)
    replaced = {"band", "y", "x", "spatial_ref", *([] if mapping is None else [mapping.name])}
    kept = {
        name: coord.variable for name, coord in scene.coords.items() if not replaced & {*coord.dims, name}
    }
    return xr.DataArray(
        values,
        dims=(*leading, *extra, "D", *spatial),
        coords={**kept, **extra, "D": np.arange(job.layout.embed_dim), **coords},
        name="embedding",
    )


def _spatial(geobox: Any, job: Job, blocks: Blocks) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The spatial dims of the output, and their coords."""
    settings, spec = job.settings, job.spec
    if settings.input_prep == "resize":
        cells = geobox.zoom_to((spec.image_size // spec.patch_size,) * 2)
    else:
        cells = georef.cell_geobox(geobox, spec.patch_size, settings.density)
    coords = georef.geobox_coords(cells)
    if settings.output == "grid":
        return ("y", "x"), coords
    reference = {"spatial_ref": coords["spatial_ref"]} if "spatial_ref" in coords else {}
    if settings.output == "pooled":
        return (), reference
    affine, half = geobox.affine, spec.image_size / 2
    y, x = (
        np.array([start for axis in axes for start in axis.starts]) + half for axes in (blocks.y, blocks.x)
    )
    centres = {"tile_y": ("tile_y", affine.f + affine.e * y), "tile_x": ("tile_x", affine.c + affine.a * x)}
    return ("tile_y", "tile_x"), {**reference, **centres}


def _pooled(values: da.Array, layout: Layout, dtype: str) -> da.Array:
    """The mean over tiles, weighted by the valid pixels that each tile owns; NaN where no tile has any."""
    parts = layout.parts_in_depth
    one_each = tuple((1,) * number for number in values.numblocks[-2:])
    sums = da.map_blocks(
        _weighted_sums, values, parts=parts, chunks=(*values.chunks[:-2], *one_each), dtype="float64"
    )
    total = sums.sum(axis=(-2, -1))
    chunks = (*total.chunks[:-1], (layout.embed_dim,))
    return da.map_blocks(_weighted_mean, total, parts=parts, out_dtype=dtype, chunks=chunks, dtype=dtype)


def _weighted_sums(values: np.ndarray, parts: int) -> np.ndarray:
    """Sums over a block's tiles: of vectors by their weights, then of the weights."""
    vectors, weights = (part.astype("float64") for part in np.split(values, [-parts], axis=-3))
    products = vectors * np.repeat(weights, vectors.shape[-3] // parts, axis=-3)
    both = np.concatenate([products, weights], axis=-3)
    return np.asarray(np.nansum(both, axis=(-2, -1), keepdims=True))


def _weighted_mean(sums: np.ndarray, parts: int, out_dtype: str) -> np.ndarray:
    total, weights = np.split(sums, [-parts], axis=-1)
    weights = np.repeat(weights, total.shape[-1] // parts, axis=-1)
    return np.divide(total, weights, out=np.full_like(total, np.nan), where=weights > 0).astype(out_dtype)


def is_lazy(inputs: Sequence[Input]) -> bool:
    """Whether any scene is a dask array."""
    return any(item.scene.chunks is not None for item in inputs)


def _warn(scene: xr.DataArray, spec: ModelSpec, settings: Settings) -> None:
    if settings.density > 4:
        warn(f"density={settings.density} runs the model {settings.density**2} times over the scene.")
    if settings.input_prep == "tile" and min(scene.sizes["y"], scene.sizes["x"]) < spec.image_size:
        warn(
            f"The scene has {scene.sizes['y']} x {scene.sizes['x']} pixels, less than one tile of {spec.image_size}: "
            'its edge pixels are repeated to fill it. input_prep="resize" stretches it over the tile instead.'
        )
