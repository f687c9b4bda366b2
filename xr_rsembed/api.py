"""Embed a scene, check it, and see it as a model does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xr_rsembed.engine.settings import Settings
from xr_rsembed.errors import SceneError, UnitsError
from xr_rsembed.inputs.cf import held_values, nodata_of
from xr_rsembed.inputs.joint import Scenes
from xr_rsembed.inputs.read import configured, read_scene
from xr_rsembed.models.registry import find_spec
from xr_rsembed.models.spec import Encoder, ModelSpec
from xr_rsembed.tiling import Blend, Edge


def embed(
    scene: xr.DataArray | Scenes,
    model: str | ModelSpec | Encoder = "terramind",
    *,
    modality: str | None = None,
    modalities: Mapping[str, str] | Sequence[str] | None = None,
    output: str = "grid",
    pooling: str = "mean",
    input_prep: str = "tile",
    overlap: int = 0,
    blend: Blend = "center",
    edge: Edge = "shift",
    normalize: str = "default",
    layer: int | list[int] | tuple[int, ...] | None = None,
    min_valid: float = 0.0,
    batch_size: int | str | None = None,
    device: str = "auto",
    precision: str = "float32",
    weights: str | os.PathLike[str] = "pretrained",
    out_dtype: str = "float32",
    units: str | Mapping[str, str] | None = None,
    density: int = 1,
    **model_options: Any,
) -> Any:  # a Dataset with merge="dict", else a DataArray
    """Embed a scene with a foundation model.

    Parameters
    ----------
    scene : DataArray, dims (..., band, y, x), or Dataset, or mapping of str to DataArray
        Raw pixels: Sentinel-2 DN in 12 (L2A) or 13 (L1C) bands, Sentinel-1 VV and VH, or another modality of the
        model. Leading dims such as time pass through. A Dataset has a variable for each modality, all on one grid
        (:func:`align` makes that of several), and goes through one forward together; a modality without a valid pixel
        in a tile is left out there. A Dataset with a variable for each band is one scene.
    model : str, ModelSpec or encoder
        A key or alias of :func:`list_models`, or a model of your own.
    modality : str, optional
        S2L2A, S2L1C, S1GRD, S1RTC, DEM or RGB, where bands and attrs leave a choice.
    modalities : mapping of str to str, or list of str, optional
        The variables of a Dataset by their modality, ``{"S2L2A": "optical"}``, or those to take. By default all,
        and their names are modalities.
    output : {"grid", "pooled", "tiles"}
        A vector for every cell, one for the scene, or one for every tile.
    pooling : {"mean", "max"}
        How ``pooled`` and ``tiles`` sum up the tokens of a tile's valid cells, where the model has no vector of its
        own. Over several tiles ``pooled`` is their mean, weighted by the valid pixels of the cells that each owns.
    input_prep : {"tile", "resize"}
        Cut into tiles, or resize the whole scene (bilinear) to one tile.
    overlap : int
        Pixels that neighbouring tiles share, a multiple of 16 below 224.
    blend : {"center", "mean"}
        A cell's value: from the tile whose centre is nearest, or the mean over the tiles that cover it.
    edge : {"shift", "pad"}
        The last tile moves inward, or keeps its place and sees repeated edge pixels.
    normalize : {"default", "zscore", "none"}
        The model's own normalization, or raw values. The default follows option ``terramind.normalize``.
    layer : int or list of int, optional
        Transformer block whose tokens are taken, counted from the end when negative; a list gives a ``layer`` dim.
        By default the last, or what option ``terramind.layer_index`` says.
    min_valid : float
        Least share of valid pixels in a cell; any valid pixel will do at 0.
    batch_size : int or "auto", optional
        Tiles a forward.
    device : str
        ``auto`` takes a CUDA device where there is one.
    precision : {"float32", "bfloat16", "float16", "auto"}
        Of the model's weights and activations; float16 on GPUs only. ``auto`` is bfloat16 where this process's device
        has units for it, else float32. A CPU without such units computes bfloat16's rounded weights in float32.
    weights : {"pretrained", "random"} or path
        From the Hugging Face hub, seeded noise, or a local checkpoint.
    out_dtype : str
        float32, float16 or float64.
    units : str, optional
        Of the pixels, where attrs do not say or are wrong: DN, reflectance, %, dB, linear, m, ft, 8-bit, ...; what
        converts is converted. For a Dataset a mapping by modality.
    density : {1, 2, 4, 8, 16}
        Cells for each patch along y and x: cells of 160 / density m from 10 m pixels, by running the model
        density x density times with the tiling shifted by 16 / density pixels.
    **model_options
        The model's own options; ``describe_model(model)`` lists them. Of TerraMind: ``bands``, some of a modality's
        bands by name; and ``merge``, what becomes of the vectors of several modalities: their ``"mean"`` or
        ``"max"``, one after another in D (``"concat"``), a variable each (``"dict"``), or a ``modality`` dim (None).

    Returns
    -------
    DataArray, dims (..., D, y, x), (..., D) or (..., D, tile_y, tile_x); with ``merge="dict"`` a Dataset
        Lazy where the scene is; georeferenced; NaN where a cell has no valid pixel. The variables of a Dataset share
        one forward a tile: compute them together.

    Raises
    ------
    SceneError, GridError, BandOrderError, UnitsError
        If the scene is no input of the model.
    OptionError, UnknownModelError, WeightsError, DeviceError
        If a setting cannot be used.

    Examples
    --------
    >>> from xr_rsembed.datasets import synthetic_scene
    >>> scene = synthetic_scene(size=(448, 672))
    >>> emb = embed(scene, "terramind_v1_tiny", weights="random")
    >>> emb.dims, emb.shape
    (('D', 'y', 'x'), (192, 28, 42))
    """
    from xr_rsembed.engine.embed import by_modality, embed_inputs
    from xr_rsembed.models.weights import resolve

    spec = find_spec(model)
    normalize, layer = configured(spec, normalize, layer)
    settings = Settings(
        output=output,
        pooling=pooling,
        input_prep=input_prep,
        overlap=overlap,
        blend=blend,
        edge=edge,
        normalize=normalize,
        layer=layer,  # type: ignore[arg-type]  # Settings turns a list into a tuple
        min_valid=min_valid,
        batch_size=batch_size,
        device=device,
        precision=precision,
        out_dtype=out_dtype,
        density=density,
    )
    inputs, options = read_scene(
        scene,
        spec,
        model_options,
        modality=modality,
        modalities=modalities,
        normalize=settings.normalize,
        units=units,
        arguments=Settings.__dataclass_fields__,
    )
    embedding = embed_inputs(inputs, spec, settings, resolve(weights, spec), options)
    return by_modality(embedding) if options.get("merge") == "dict" else embedding


def validate(
    scene: xr.DataArray | Scenes,
    model: str | ModelSpec | Encoder = "terramind",
    *,
    modality: str | None = None,
    modalities: Mapping[str, str] | Sequence[str] | None = None,
    units: str | Mapping[str, str] | None = None,
    **model_options: Any,
) -> None:
    """Check that a scene is an input of a model, without reading a pixel of a lazy one.

    Raises
    ------
    SceneError, GridError, BandOrderError, UnitsError, UnknownModelError
        What is wrong, and the line that mends it.

    Examples
    --------
    >>> from xr_rsembed.datasets import synthetic_scene
    >>> validate(synthetic_scene(size=(448, 448)), "terramind")
    """
    spec = find_spec(model)
    read_scene(scene, spec, model_options, modality=modality, modalities=modalities, units=units)


def to_bands(
    scene: xr.DataArray | xr.Dataset,
    model: str | ModelSpec | Encoder = "terramind",
    *,
    modality: str | None = None,
) -> xr.DataArray:
    """The scene with the model's bands in the model's order, under their canonical names.

    Examples
    --------
    >>> from xr_rsembed.datasets import synthetic_scene
    >>> scene = synthetic_scene(size=(32, 32)).isel(band=slice(None, None, -1))
    >>> to_bands(scene, "terramind").band.values[:3].tolist()
    ['B1', 'B2', 'B3']
    """
    from xr_rsembed.inputs.scene import select_bands

    return select_bands(scene, find_spec(model), modality)


def normalize(
    scene: xr.DataArray,
    model: str | ModelSpec | Encoder = "terramind",
    *,
    modality: str | None = None,
    units: str | None = None,
    **model_options: Any,
) -> xr.DataArray:
    """The scene as the model sees it: normalized float32, 0 where a pixel is invalid.

    Raises
    ------
    SceneError
        For a normalization by each tile's own percentile (TerraFM, Sentinel-1) over a scene of several tiles: there
        is no one normalized scene then, unless ``s1_scale`` fixes the divisor.

    Examples
    --------
    >>> from xr_rsembed.datasets import synthetic_scene
    >>> seen = normalize(synthetic_scene(size=(64, 64)), "terrafm")
    >>> float(seen.max()) <= 1.0
    True
    """
    from xr_rsembed.engine.pixels import normalized_pixels
    from xr_rsembed.inputs.cf import NODATA_ATTRS, PACKING_ATTRS
    from xr_rsembed.inputs.scene import on_own_axes

    spec = find_spec(model)
    (checked, *others), _ = read_scene(scene, spec, model_options, modality=modality, units=units)
    if others:
        raise SceneError(
            "One modality is normalized at a time.", found="a Dataset of several", expected="one"
        )
    how, tile = checked.pixels.normalization, spec.image_size
    per_tile = how.kind == "log_percentile" and how.divisor is None
    if per_tile and max(checked.scene.sizes["y"], checked.scene.sizes["x"]) > tile:
        raise SceneError(
            "Each tile is normalized by its own percentile, so a scene of several tiles has no one normalized form.",
            found=f"{checked.scene.sizes['y']} x {checked.scene.sizes['x']} pixels",
            expected=f"at most {tile} x {tile}, or a fixed divisor",
            remedy="s1_scale=xr_rsembed.s1_scale(da)",
        )
    data = checked.scene
    if data.chunks is not None:
        whole = {"band": -1} | ({"y": -1, "x": -1} if how.kind == "log_percentile" else {})
        data = data.chunk(whole)
    seen = xr.apply_ufunc(
        normalized_pixels,
        data,
        kwargs={"how": checked.pixels},
        dask="parallelized",
        output_dtypes=[np.float32],
    )
    gone = {*NODATA_ATTRS, *PACKING_ATTRS, "units"}
    seen.attrs = {name: value for name, value in checked.scene.attrs.items() if name not in gone}
    seen.attrs |= {"normalization": how.source, "model_key": spec.key}
    return on_own_axes(seen, checked.flipped)


def s1_scale(scene: xr.DataArray, percentile: float = 99.0) -> float:
    """One divisor for a whole Sentinel-1 scene: the percentile of ``log1p(x)`` over its valid pixels, those above 0.

    Parameters
    ----------
    scene : DataArray, dims (..., y, x)
        Linear power; computed, on at most about four million pixels at regular steps.
    percentile : float

    Returns
    -------
    float
        For ``embed(..., "terrafm", s1_scale=...)``, which removes the seams of per-tile scales.

    Raises
    ------
    UnitsError
        If the scene is in dB.
    SceneError
        If no pixel is valid.

    Examples
    --------
    >>> s1_scale(xr.DataArray(np.ones((2, 8, 8)), dims=("band", "y", "x")))
    0.693147...
    """
    step = max(1, int(np.sqrt(scene.size / 4e6)))
    values = np.asarray(scene.isel(y=slice(None, None, step), x=slice(None, None, step)), dtype="float64")
    unmeasured = (0.0, *held_values(nodata_of(scene), scene.dtype))
    values = values[np.isfinite(values) & ~np.isin(values, unmeasured)]
    stated = str(scene.attrs.get("units", "")).lower()
    if values.size and (stated == "db" or np.median(values) < -0.05):
        raise UnitsError(
            "A divisor is made of linear power.",
            found=f"a median of {np.median(values):.3g}, units={scene.attrs.get('units')!r}",
            expected="linear power, above 0",
            remedy='s1_scale((10 ** (da / 10)).where(da != da.rio.nodata).assign_attrs(units="linear"))',
        )
    values = values[values > 0]  # noise below 0 was not measured either
    if not values.size:
        raise SceneError("The scene has no valid pixel.", found="no power above 0", expected="linear power")
    return float(np.percentile(np.log1p(values), percentile))
