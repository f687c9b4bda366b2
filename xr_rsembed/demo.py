"""The demo: one scene, two models, a store and a picture."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray as xr

from xr_rsembed import api
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import HubError
from xr_rsembed.tiling import plan_axis

__all__ = ["run_demo"]

MODELS = ("terramind", "terrafm")
OVERLAP = 64


def run_demo(
    folder: str | os.PathLike[str] = "demo",
    *,
    scene: str | os.PathLike[str] | None = None,
    size: int = 1792,
    weights: str = "pretrained",
    say: Callable[[str], None] = print,
) -> dict[str, xr.DataArray]:
    """Embed a scene with TerraMind and with TerraFM.

    Leaves ``embeddings.zarr``, a store with one group per model, and ``embeddings.png`` in the folder, and replaces
    those of an earlier demo.

    Parameters
    ----------
    folder : path
    scene : path, optional
        A Sentinel-2 scene; a made one of ``size`` pixels a side otherwise.
    size : int
    weights : str
        ``pretrained`` falls back on random weights where the hub cannot be reached, and says so.
    say : callable
        Takes one line of the report at a time.

    Returns
    -------
    dict
        The stored embeddings by model.
    """
    import zarr

    from xr_rsembed.explore.plots import demo_figure
    from xr_rsembed.store.zarr import to_zarr

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    store, picture = folder / "embeddings.zarr", folder / "embeddings.png"
    pixels = _scene(scene, size)
    say(f"scene: {' x '.join(map(str, pixels.shape))} ({', '.join(map(str, pixels.dims))})")
    zarr.open_group(store, mode="w")
    embeddings = {}
    for model in MODELS:
        embedding, weights = _embedded(pixels, model, weights, say)
        started = time.perf_counter()
        embeddings[model] = to_zarr(embedding, store / model, overwrite=True)
        seconds = time.perf_counter() - started
        tiles = _tiles(pixels)
        say(
            f"{embedding.attrs['model_key']}: {tiles} tiles in {seconds:.1f} s ({tiles / seconds:.1f} tiles/s, "
            f"with loading), {embedding.attrs['weights']}"
        )
    figure = demo_figure(pixels, embeddings)
    figure.savefig(picture, dpi=130)
    say(f"store: {store}")
    say(f"picture: {picture}")
    return embeddings


def _scene(path: str | os.PathLike[str] | None, size: int) -> xr.DataArray:
    if path is not None:
        return api.open_scene(path)
    # Read once by each model and once by the picture, so it is kept in memory; it is small.
    return synthetic_scene((size, size), chunks=896).load()


def _embedded(
    pixels: xr.DataArray, model: str, weights: str, say: Callable[[str], None]
) -> tuple[xr.DataArray, str]:
    lazy = pixels.chunk({"y": 1792, "x": 1792})
    seams: dict[str, Any] = {"overlap": OVERLAP, "blend": "mean"}
    if weights == "pretrained":
        from huggingface_hub.utils.logging import set_verbosity_error

        say(f"{model}: looking for pretrained weights in the local cache and on the Hugging Face hub")
        set_verbosity_error()  # of its retries; one line below says it all
    try:
        return api.embed(lazy, model, weights=weights, **seams), weights
    except HubError as error:
        say(f"{str(error).splitlines()[0]} Going on with random weights.")
        return api.embed(lazy, model, weights="random", **seams), "random"


def _tiles(pixels: xr.DataArray) -> int:
    return len(plan_axis(pixels.sizes["y"], OVERLAP).starts) * len(
        plan_axis(pixels.sizes["x"], OVERLAP).starts
    )
