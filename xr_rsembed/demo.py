"""The demo: one scene, two models, a store and a picture."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import xarray as xr

from xr_rsembed import api
from xr_rsembed.datasets import synthetic_scene
from xr_rsembed.errors import HubError
from xr_rsembed.scenes import open_scene
from xr_rsembed.tiling import plan_axis

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

    Says what each step does and how long it took. Leaves ``embeddings.zarr``, a store with one group per model,
    ``embeddings.png`` and, where it made the scene, ``scene.tif`` in the folder, and replaces those of an earlier demo.

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
    import rioxarray  # noqa: F401  (registers .rio)
    import zarr

    from xr_rsembed.explore.plots import demo_figure
    from xr_rsembed.store import to_zarr

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    store, picture = folder / "embeddings.zarr", folder / "embeddings.png"
    began = time.perf_counter()
    say(f"1. A scene: {'made land, no real place' if scene is None else scene}")
    if scene is None:
        # Read once by each model and once by the picture, so it is kept in memory; it is small.
        pixels, scene = synthetic_scene((size, size), chunks=896).load(), folder / "scene.tif"
        pixels.assign_attrs(long_name=[str(band) for band in pixels.band.values]).rio.to_raster(scene)
    else:
        pixels = open_scene(scene)
    say(f"   {_shape(pixels)}, {_took(began)}")
    zarr.open_group(store, mode="w")
    embeddings = {}
    tiles = math.prod(len(plan_axis(pixels.sizes[dim], OVERLAP).starts) for dim in ("y", "x"))
    for number, model in enumerate(MODELS, 2):
        began = time.perf_counter()
        say(f"{number}. {model}: {tiles} tiles that share {OVERLAP} pixels, blended by their mean")
        embedding, weights = _embedded(pixels, model, weights, say)
        embeddings[model] = to_zarr(embedding, store / model, overwrite=True)
        rate = f"{tiles / (time.perf_counter() - began):.1f} tiles/s, loading and writing included"
        say(f"   {embedding.attrs['model_key']}, weights: {embedding.attrs['weights']}")
        say(f"   {_shape(embedding)}, {_took(began)}, {rate}")
    began = time.perf_counter()
    say("4. A picture: the scene, and the first three principal components of each as red, green and blue.")
    say("   Like colours are like vectors: each cell stands for 16 x 16 pixels.")
    if weights == "random":
        say(
            "   These weights are random: edges show, and little more. Pretrained ones tell land covers apart."
        )
    demo_figure(pixels, embeddings).savefig(picture, dpi=130)
    say(f"   {_took(began)}")
    say(f"picture: {picture}")
    say(f"store: {store}")
    first = store / MODELS[0]
    say("Next:")
    say(f"  xr-rsembed info {first}")
    say(f"  xr-rsembed explore {first} --scene {scene}")
    say(f"  xr-rsembed convert {first} {folder / 'terramind.tif'}")
    return embeddings


def _took(began: float) -> str:
    return f"{time.perf_counter() - began:.1f} s"


def _shape(array: xr.DataArray) -> str:
    return f"{' x '.join(map(str, array.shape))} ({', '.join(map(str, array.dims))})"


def _embedded(
    pixels: xr.DataArray, model: str, weights: str, say: Callable[[str], None]
) -> tuple[xr.DataArray, str]:
    """The lazy embedding, and which weights it has: random ones where the hub cannot be reached."""
    embed = partial(api.embed, pixels.chunk({"y": 1792, "x": 1792}), model, overlap=OVERLAP, blend="mean")
    if weights == "pretrained":
        from huggingface_hub.utils.logging import set_verbosity_error

        say(f"   {model}: looking for pretrained weights in the local cache and on the Hugging Face hub")
        set_verbosity_error()  # of its retries; one line below says it all
    try:
        return embed(weights=weights), weights
    except HubError as error:
        say(f"   {str(error).splitlines()[0]} Going on with random weights.")
        return embed(weights="random"), "random"
