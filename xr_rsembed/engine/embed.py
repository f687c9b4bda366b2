"""The pipeline of one embedding: validate, plan, map blocks, label, record."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from xr_rsembed import georef
from xr_rsembed.config import get_option
from xr_rsembed.crs import grid_mapping
from xr_rsembed.engine import devices
from xr_rsembed.engine.block import Job, run_block
from xr_rsembed.engine.plan import Shared, average, join_blocks, map_tiles, regular
from xr_rsembed.engine.presence import count_missing
from xr_rsembed.engine.settings import Settings
from xr_rsembed.errors import OptionError, warn
from xr_rsembed.inputs.record import Input
from xr_rsembed.inputs.scene import input_attrs, laid_back
from xr_rsembed.models.spec import EncoderRequest, Layout, ModelSpec, WeightsRef, freeze
from xr_rsembed.tiling import AxisBlock, coverage, tile_blocks

__all__ = [
    "as_dask",
    "by_modality",
    "embed_inputs",
    "plan_job",
    "recorded_settings",
    "scene_blocks",
]

# Settings that stand in the attrs under their own names.
_RECORDED = (
    "output",
    "pooling",
    "input_prep",
    "overlap",
    "blend",
    "edge",
    "min_valid",
    "precision",
    "out_dtype",
    "normalize",
    "density",
)
# What stands in the attrs of each input: plain for one, a list in the order of the modalities for several.
_OF_INPUTS = ("modality", "variable", "bands", "normalization", "units")

# What a provider says of a scene and its embedding keeps, under ``scene_...``.
_ORIGIN = (
    "provider",
    "catalog",
    "collection",
    "composite",
    "dates",
    "item_ids",
    "covered",
    "time_start",
    "time_end",
    *("reader", "resampling", "mask_clouds", "cloud_limit", "items_incomplete", "s1_orbit"),
    *("s1_iw_requested", "s1_iw_applied", "s1_iw_relaxed_on_empty", "s1_relax_iw_on_empty"),
)


def embed_inputs(
    inputs: tuple[Input, ...],
    spec: ModelSpec,
    settings: Settings,
    weights: WeightsRef,
    options: Mapping[str, Any],
) -> xr.DataArray:
    """Embed checked inputs that lie on one grid.

    Parameters
    ----------
    inputs : tuple of Input
        One per modality.
    spec : ModelSpec
    settings : Settings
    weights : WeightsRef
    options : mapping
        The model options, complete.

    Returns
    -------
    DataArray
        Lazy if any input is a dask array, else computed. Several modalities that are computed at once are counted in
        attrs: ``tiles``, and ``tiles_without`` each of them. Of a lazy result they are not known before every pixel
        is; :func:`xr_rsembed.count_missing` reads them.
    """
    job = plan_job(inputs, spec, settings, weights, options)
    scene = inputs[0].scene
    rows, columns = scene_blocks(scene, job)
    _warn_of_padding(scene, spec, settings)
    _warn_of_cost(settings)
    sources = [as_dask(item.scene, rows, columns) for item in inputs]
    if settings.output == "grid":
        values = _cells(sources, job, rows, columns)
    else:
        values = _tiles(sources, job, rows, columns)
        parts = job.layout.parts_in_depth
        values = (
            _pooled(values, job.layout, settings)
            if settings.output == "pooled"
            else values[..., :-parts, :, :]
        )
    labelled = label(values, scene, job, rows, columns)
    labelled.attrs = record(inputs, job, weights, options)
    labelled = laid_back(labelled, inputs[0].flipped)
    if _is_lazy(inputs):
        return labelled
    if len(inputs) > 1:
        labelled.attrs |= count_missing(inputs, rows, columns, spec.patch_size)
    tiles = math.prod(scene.shape[:-3])
    for axes in (rows, columns):
        tiles *= sum(len(axis.starts) for axis in axes)
    return devices.compute_here(labelled, tiles, spec.key)


def by_modality(embedding: xr.DataArray) -> xr.Dataset:
    """The modalities as variables, slices of one array."""
    named = {str(name): embedding.sel(modality=name, drop=True) for name in embedding["modality"].values}
    return xr.Dataset(named, attrs=embedding.attrs)


def scene_blocks(scene: xr.DataArray, job: Job) -> tuple[tuple[AxisBlock, ...], tuple[AxisBlock, ...]]:
    """The blocks of a scene along y and x."""
    rows, columns = (_axis_blocks(scene.sizes[dim], job) for dim in ("y", "x"))
    return rows, columns


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
        tiles=get_option("block_tiles"),
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
    for layer in settings.layers:
        if not -spec.depth <= layer < spec.depth:
            raise OptionError(
                f"{spec.key} has no layer {layer}.",
                found=f"layer={layer}",
                expected=f"{-spec.depth} to {spec.depth - 1}",
            )
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
    return Job(spec, request, tuple(item.pixels for item in inputs), layout, settings, call)


def _shared(job: Job, rows: tuple[AxisBlock, ...], columns: tuple[AxisBlock, ...]) -> Shared:
    return Shared(run_block, job, rows, columns, (get_option("block_tiles") * job.spec.image_size) ** 2)


def _cells(
    sources: list[da.Array], job: Job, rows: tuple[AxisBlock, ...], columns: tuple[AxisBlock, ...]
) -> da.Array:
    """The values of all cells, shape (..., *layout.shape, y, x)."""
    settings = job.settings
    dtype = "float64" if settings.sums else settings.out_dtype
    lengths = (tuple(map(len, rows)), tuple(map(len, columns)))
    values = map_tiles(sources, _shared(job, rows, columns), job.layout.shape, lengths, dtype)
    ranges = [[block.cells for block in blocks] for blocks in (rows, columns)]
    if settings.sums:
        return regular(average(values, ranges, [coverage(rows), coverage(columns)], settings.out_dtype))
    return regular(join_blocks(values, ranges))


def _tiles(
    sources: list[da.Array], job: Job, rows: tuple[AxisBlock, ...], columns: tuple[AxisBlock, ...]
) -> da.Array:
    """A vector for each tile and its weights at the end of D, shape (..., *layout.shape + weights, y, x)."""
    *outer, depth = job.layout.shape
    lengths = (tuple(len(y.starts) for y in rows), tuple(len(x.starts) for x in columns))
    inner = (*outer, depth + job.layout.parts_in_depth)
    return regular(map_tiles(sources, _shared(job, rows, columns), inner, lengths, job.settings.out_dtype))


def label(
    values: da.Array,
    scene: xr.DataArray,
    job: Job,
    rows: tuple[AxisBlock, ...],
    columns: tuple[AxisBlock, ...],
) -> xr.DataArray:
    """Dims and coords for the values of all blocks."""
    leading = scene.dims[:-3]
    extra = {dim: list(labels) for dim, labels in job.layout.extra}
    geobox = georef.scene_geobox(scene)
    spatial, coords = _spatial(geobox, job, rows, columns)
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


def _spatial(
    geobox: Any, job: Job, rows: tuple[AxisBlock, ...], columns: tuple[AxisBlock, ...]
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The spatial dims of the output, and their coords."""
    settings, spec = job.settings, job.spec
    if settings.input_prep == "resize":
        cells = georef.subgrid(geobox, (spec.image_size // spec.patch_size,) * 2)
    else:
        cells = georef.cell_geobox(geobox, spec.patch_size, settings.density)
    coords = georef.geobox_coords(cells)
    if settings.output == "grid":
        return ("y", "x"), coords
    reference = {"spatial_ref": coords["spatial_ref"]} if "spatial_ref" in coords else {}
    if settings.output == "pooled":
        return (), reference
    affine, half = geobox.affine, spec.image_size / 2
    y, x = (np.array([start for axis in axes for start in axis.starts]) + half for axes in (rows, columns))
    centres = {"tile_y": ("tile_y", affine.f + affine.e * y), "tile_x": ("tile_x", affine.c + affine.a * x)}
    return ("tile_y", "tile_x"), {**reference, **centres}


def record(
    inputs: tuple[Input, ...], job: Job, weights: WeightsRef, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The attrs of an embedding: plain values that Zarr and NetCDF keep, enough to make it again."""
    from xr_rsembed._version import __version__

    spec, settings = job.spec, job.settings
    attrs: dict[str, Any] = {
        "model": spec.family,
        "model_key": spec.key,
        **_input_attrs(inputs),
        "weights": weights.source,
        "weights_sha256": weights.sha256,
        "tile_size": spec.image_size,
        "patch_size": spec.patch_size,
        "layer": list(settings.layer) if isinstance(settings.layer, tuple) else settings.layer,
        "grid_type": spec.grid_type,
        **{name: getattr(settings, name) for name in _RECORDED},
        "model_options": json.dumps(dict(sorted(options.items()))),
        "xr_rsembed_version": __version__,
    }
    if len(inputs) == 1:
        origin = inputs[0].scene.attrs
        attrs |= {f"scene_{name}": origin[name] for name in _ORIGIN if name in origin}
    if len(inputs) > 1 and "merge" in options:
        attrs["merge"] = options["merge"] or "none"
    if spec.attrs is not None:
        attrs |= spec.attrs([band for item in inputs for band in item.bands])
    return attrs


def _input_attrs(inputs: tuple[Input, ...]) -> dict[str, Any]:
    """Of one input as they are; of several a list each, with a modality's bands in one string."""
    described = [input_attrs(item) for item in inputs]
    if len(described) == 1:
        return {name: described[0][name] for name in _OF_INPUTS}
    for attrs in described:
        attrs["bands"] = " ".join(attrs["bands"])
    return {name: [attrs[name] for attrs in described] for name in _OF_INPUTS}


def recorded_settings(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of ``embed`` as the attrs of an embedding record them.

    Raises
    ------
    OptionError
        If the attrs are not those of an embedding of ours.
    """
    names = (*_RECORDED, *_OF_INPUTS, "layer", "model_key", "weights", "model_options")
    missing = [name for name in names if name not in attrs]
    if missing:
        raise OptionError(
            "These attrs do not say how the embedding was made.",
            found=f"no {', '.join(missing)}",
            expected="the attrs that embed() writes",
        )
    layer = attrs["layer"]
    weights = str(attrs["weights"])
    return {
        **{name: _plain(attrs[name]) for name in _RECORDED},
        **_recorded_inputs(attrs),
        "layer": _plain(layer) if np.ndim(layer) == 0 else tuple(int(one) for one in layer),
        "model": attrs["model_key"],
        "weights": "random" if weights.startswith("random") else weights,
        **json.loads(attrs["model_options"]),
    }


def _recorded_inputs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    modality, variable, units = (
        [str(one) for one in np.atleast_1d(attrs[name])] for name in ("modality", "variable", "units")
    )
    if not variable[0]:  # a DataArray, not a Dataset
        return {"modality": modality[0], "units": units[0] or None}
    return {
        "modalities": dict(zip(modality, variable, strict=True)),
        "units": {name: said for name, said in zip(modality, units, strict=True) if said},
    }


def _plain(value: Any) -> Any:
    """A Python value: stores give numpy scalars back."""
    return value.item() if isinstance(value, np.generic) else value


def _pooled(values: da.Array, layout: Layout, settings: Settings) -> da.Array:
    """The mean over tiles, weighted by the valid pixels that each tile owns; NaN where no tile has any."""
    parts = layout.parts_in_depth
    vectors = values[..., :-parts, :, :].astype("float64")
    weights = values[..., -parts:, :, :].astype("float64")
    if parts > 1:
        weights = da.repeat(weights, layout.embed_dim // parts, axis=-3)
    total = da.nansum(vectors * weights, axis=(-2, -1))
    weight = weights.sum(axis=(-2, -1))
    return da.where(weight > 0, total / da.where(weight > 0, weight, 1.0), np.nan).astype(settings.out_dtype)


def _is_lazy(inputs: tuple[Input, ...]) -> bool:
    return any(item.scene.chunks is not None for item in inputs)


def as_dask(scene: xr.DataArray, rows: tuple[AxisBlock, ...], columns: tuple[AxisBlock, ...]) -> da.Array:
    """The scene's pixels as a dask array, read a block at a time where nothing says otherwise."""
    if scene.chunks is not None:
        return scene.data
    if scene.variable._in_memory:
        return da.from_array(scene.values, chunks=-1, name=False, asarray=False)
    # Opened without chunks and not loaded yet: read it a block at a time all the same.
    step = {
        dim: max(axis.window[1] - axis.window[0] for axis in axes)
        for dim, axes in (("y", rows), ("x", columns))
    }
    return scene.chunk(step).data


def _warn_of_cost(settings: Settings) -> None:
    if settings.density > 4:
        warn(f"density={settings.density} runs the model {settings.density**2} times over the scene.")


def _warn_of_padding(scene: xr.DataArray, spec: ModelSpec, settings: Settings) -> None:
    small = [dim for dim in ("y", "x") if scene.sizes[dim] < spec.image_size]
    if small and settings.input_prep == "tile":
        sizes = " x ".join(str(scene.sizes[dim]) for dim in ("y", "x"))
        warn(
            f"The scene has {sizes} pixels, less than one tile of {spec.image_size}: its edge pixels are repeated "
            'to fill it. input_prep="resize" stretches it over the tile instead.'
        )
