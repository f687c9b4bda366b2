"""The output contract of docs/tiling.md as one assertion, worked out from the scene alone."""

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


def assert_contract(embedding: xr.DataArray, scene: xr.DataArray, *, nodata: tuple[float, ...] = ()) -> None:
    """Hold a grid of cells, one vector each, to what every reader of it may count on.

    Parameters
    ----------
    embedding : DataArray, dims (..., D, y, x)
        As ``embed(scene, ...)`` gave it, lazy or not.
    scene : DataArray, dims band, y, x and others in any order
    nodata : tuple of float
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


def flipped(scene: xr.DataArray) -> list[str]:
    """Dims that do not run from north to south, or from west to east, by the rule of docs/tiling.md."""
    placed = {"y", "x"} & set(scene.coords)
    if not placed:
        return []
    # An axis without labels counts pixels.
    steps = {
        dim: np.diff(scene[dim].values.astype("float64")[:2]) if dim in placed else [0.0]
        for dim in ("y", "x")
    }
    y, x = (float(steps[dim][0]) if len(steps[dim]) else 0.0 for dim in ("y", "x"))
    counted = scene.odc.crs is None and {abs(y or x), abs(x or y)} == {1.0} and abs(float(scene.y[0])) <= 1
    return [] if counted else [dim for dim, wrong in (("y", y > 0), ("x", x < 0)) if wrong]


def _assert_coords(embedding: xr.DataArray, scene: xr.DataArray, leading: list[Any]) -> None:
    assert embedding["D"].values.tolist() == list(range(embedding.sizes["D"]))
    located = {"y", "x"} <= set(scene.coords)
    for dim in ("y", "x"):
        # An axis without labels counts pixels, whatever the other one has.
        known = dim in scene.coords
        pixels = scene[dim].values.astype("float64") if known else np.arange(scene.sizes[dim]) + 0.5
        if len(pixels) == 1:
            assert np.isfinite(embedding[dim].values).all()
            continue
        step = (pixels[-1] - pixels[0]) / (len(pixels) - 1)
        cells = PATCH * np.arange(embedding.sizes[dim]) + (PATCH - 1) / 2
        # Patches count from the north and the west, whatever the scene's axes.
        turned = dim in flipped(scene)
        centres = (pixels[-1] - step * cells)[::-1] if turned else pixels[0] + step * cells
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


def _assert_nan(embedding: xr.DataArray, scene: xr.DataArray, nodata: tuple[float, ...]) -> None:
    """NaN in every D of a cell without a valid pixel, and nowhere else."""
    pixels = scene.transpose(..., "band", "y", "x").compute(scheduler="synchronous").values
    invalid = np.isnan(pixels) if pixels.dtype.kind == "f" else np.zeros(pixels.shape, dtype=bool)
    for value in nodata:
        invalid |= pixels == value
    valid = ~invalid.any(axis=-3)
    ends = [-size % PATCH for size in valid.shape[-2:]]
    turned = flipped(scene)
    padded = np.pad(
        valid,
        [(0, 0)] * (valid.ndim - 2)
        + [(end, 0) if dim in turned else (0, end) for dim, end in zip(("y", "x"), ends, strict=True)],
    )
    rows, columns = (size // PATCH for size in padded.shape[-2:])
    blocks = padded.reshape(*padded.shape[:-2], rows, PATCH, columns, PATCH)
    empty = ~blocks.any(axis=(-3, -1))
    np.testing.assert_array_equal(
        np.isnan(embedding.values), np.broadcast_to(empty[..., None, :, :], embedding.shape)
    )
