"""The output contract of DESIGN.md as one assertion, worked out from the scene alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401  the .odc accessor
import xarray as xr

PATCH = 16
RECORDED = {
    "model", "model_key", "modality", "bands", "normalization", "weights", "weights_sha256", "tile_size", "patch_size",
    "overlap", "blend", "edge", "layer", "precision", "grid_type", "xr_rsembed_version",
}  # fmt: skip


def assert_contract(embedding: xr.DataArray, scene: xr.DataArray, *, nodata: float | None = None) -> None:
    """Hold a grid of cells, one vector each, to what every reader of it may count on.

    Parameters
    ----------
    embedding : DataArray, dims (..., D, y, x)
        As ``embed(scene, ...)`` gave it, lazy or not.
    scene : DataArray, dims band, y, x and others in any order
    nodata : float, optional
        What marks an invalid pixel of the scene besides NaN.
    """
    leading = [dim for dim in scene.dims if dim not in ("band", "y", "x")]
    cells = {dim: -(-scene.sizes[dim] // PATCH) for dim in ("y", "x")}
    assert embedding.name == "embedding"
    assert embedding.dims == (*leading, "D", "y", "x")
    assert [embedding.sizes[dim] for dim in leading] == [scene.sizes[dim] for dim in leading]
    assert {dim: embedding.sizes[dim] for dim in ("y", "x")} == cells
    assert embedding.dtype == np.float32
    assert (embedding.chunks is None) == (scene.chunks is None)
    if embedding.chunks is not None:
        assert len(embedding.chunksizes["D"]) == 1
    _assert_coords(embedding, scene, leading)
    _assert_plain(embedding.attrs)
    computed = embedding.compute(scheduler="synchronous")
    assert computed.dtype == np.float32
    _assert_nan(computed, scene, nodata)


def _assert_coords(embedding: xr.DataArray, scene: xr.DataArray, leading: list[Any]) -> None:
    assert embedding["D"].values.tolist() == list(range(embedding.sizes["D"]))
    located = {"y", "x"} <= set(scene.coords)
    for dim in ("y", "x"):
        pixels = scene[dim].values.astype("float64") if located else np.arange(scene.sizes[dim]) + 0.5
        if len(pixels) == 1:
            assert np.isfinite(embedding[dim].values).all()
            continue
        step = (pixels[-1] - pixels[0]) / (len(pixels) - 1)
        centres = pixels[0] + step * (PATCH * np.arange(embedding.sizes[dim]) + (PATCH - 1) / 2)
        np.testing.assert_allclose(embedding[dim], centres, atol=1e-6 * abs(step), rtol=1e-12)
    if located:
        assert embedding.odc.crs == scene.odc.crs
    for name, coord in scene.coords.items():
        if name not in ("D", "spatial_ref") and not {"band", "y", "x"} & {*coord.dims, name}:
            assert embedding[name].variable.identical(coord.variable), name
    for dim in leading:
        assert (dim in embedding.coords) == (dim in scene.coords)


def _assert_plain(attrs: dict[str, Any]) -> None:
    assert set(attrs) >= RECORDED
    for name, value in attrs.items():
        for one in value if isinstance(value, list) else [value]:
            assert type(one) in (str, int, float, bool), (name, value)
    assert json.loads(json.dumps(attrs, allow_nan=False)) == attrs


def _assert_nan(embedding: xr.DataArray, scene: xr.DataArray, nodata: float | None) -> None:
    """NaN in every D of a cell without a valid pixel, and nowhere else."""
    pixels = scene.transpose(..., "band", "y", "x").compute(scheduler="synchronous").values
    invalid = np.isnan(pixels) if pixels.dtype.kind == "f" else np.zeros(pixels.shape, dtype=bool)
    if nodata is not None:
        invalid |= pixels == nodata
    valid = ~invalid.any(axis=-3)
    ends = [-size % PATCH for size in valid.shape[-2:]]
    padded = np.pad(valid, [(0, 0)] * (valid.ndim - 2) + [(0, end) for end in ends])
    rows, columns = (size // PATCH for size in padded.shape[-2:])
    blocks = padded.reshape(*padded.shape[:-2], rows, PATCH, columns, PATCH)
    empty = ~blocks.any(axis=(-3, -1))
    np.testing.assert_array_equal(
        np.isnan(embedding.values), np.broadcast_to(empty[..., None, :, :], embedding.shape)
    )
