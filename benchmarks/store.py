"""What ``emb.rsembed.to_zarr`` costs beside xarray's own ``to_zarr``: seconds, and requests to the store a shard.

Both write the same lazy embedding, of an encoder that costs nearly nothing, with the same shards, chunks and
compressor, in turn and in one process; what is written is removed between the rounds, outside the time.

python -m benchmarks store
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.storage import MemoryStore, WrapperStore

from benchmarks import measure
from benchmarks.speed import BANDS

DIMENSIONS, CELLS = 192, 14
CASES = {"blocks of 8 x 8 tiles": (48, 8), "blocks of 2 x 2 tiles": (24, 2), "blocks of one tile": (24, 1)}


def run(
    cases: dict[str, tuple[int, int]] | None = None, rounds: int = 5, folder: str | Path | None = None
) -> None:
    """``cases``: by name, tiles a side of the scene and of a block. ``folder``: on the disk to be written to."""
    rows = {}
    for name, (side, block) in (cases or CASES).items():
        emb = embedding(side, block)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            rows[name] = {"tiles": side**2, "megabytes": emb.nbytes / 1e6} | compare(emb, Path(place), rounds)
        print(name, rows[name], flush=True)
    measure.save("store", rows, rounds=rounds, dimensions=DIMENSIONS)


def embedding(side: int, block: int) -> xr.DataArray:
    """A lazy embedding of so many tiles a side, by an encoder that gives patches' means."""
    import dask.array as da

    import xr_rsembed
    from xr_rsembed.models import registry
    from xr_rsembed.models.spec import Modality, ModelFamily, ModelSpec
    from xr_rsembed.normalize import Normalization

    modality = Modality("S2L2A", BANDS, "DN", Normalization("none"))
    spec = ModelSpec(
        key="cheap", family="cheap", embed_dim=DIMENSIONS, depth=1, modalities=(modality,), load=_load
    )
    if "cheap" not in xr_rsembed.list_models():
        registry.register(ModelFamily("cheap", (spec,)))
    pixels = 16 * CELLS * side
    scene = xr.DataArray(
        da.random.default_rng(0).integers(200, 4000, (12, pixels, pixels), "uint16", chunks=(12, 1024, 1024)),
        dims=("band", "y", "x"),
        coords={
            "band": list(BANDS),
            "y": 5e6 - 10.0 * np.arange(pixels),
            "x": 5e5 + 10.0 * np.arange(pixels),
        },
        attrs={"units": "DN"},
    )
    with xr_rsembed.set_options(block_tiles=block):
        found: xr.DataArray = xr_rsembed.embed(scene, "cheap", weights="random", device="cpu")
    return found


def _load(spec: Any, request: Any) -> Callable[..., Any]:
    from xr_rsembed.models.spec import Tokens

    def encode(inputs: Any, layers: Any, options: Any) -> Tokens:
        (tiles,) = inputs.values()
        means = tiles[:, 0].unfold(1, 16, 16).unfold(2, 16, 16).mean((-1, -2))
        grid = means[:, None].expand(-1, DIMENSIONS, -1, -1).contiguous()
        return Tokens(grid[:, None].expand(-1, len(layers), -1, -1, -1))

    return encode


def compare(emb: xr.DataArray, folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of both, ours over xarray's, and how often each asks the store for a shard."""
    ours = to_ours(emb, folder / "first.zarr")  # the encoder's first call is nobody's
    encoding = {name: ours.encoding[name] for name in ("chunks", "shards", "compressors")}
    shards = int(np.prod([-(-n // one) for n, one in zip(ours.shape, encoding["shards"], strict=True)]))

    def to_plain(emb: xr.DataArray, store: Any) -> None:
        plain = emb.to_dataset(name="embedding")
        plain.to_zarr(
            store, encoding={"embedding": encoding}, zarr_format=3, consolidated=False, align_chunks=True
        )

    ways: dict[str, Callable[..., Any]] = {"ours": to_ours, "xarray": to_plain}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            path = folder / f"{name}-{number}.zarr"
            start = time.perf_counter()
            way(emb, path)
            taken[name].append(time.perf_counter() - start)
            shutil.rmtree(path)
    requests = {}
    for name, way in ways.items():
        store = Counting(MemoryStore())
        way(emb, store)
        counted = Counter(kind for kind, _ in store.asked)
        requests[name] = {kind: number / shards for kind, number in sorted(counted.items())}
    return {
        "shards": shards,
        "seconds": {name: statistics.median(found) for name, found in taken.items()},
        "ratio": statistics.median(a / b for a, b in zip(*taken.values(), strict=True)),
        "requests": requests,
    }


def to_ours(emb: xr.DataArray, store: Any) -> xr.DataArray:
    stored: xr.DataArray = emb.rsembed.to_zarr(store, progress=False)
    return stored


class Counting(WrapperStore[zarr.abc.store.Store]):
    """A store that notes what it is asked for: the kind of each request and its key."""

    def __init__(self, store: zarr.abc.store.Store, asked: list[tuple[str, str]] | None = None) -> None:
        super().__init__(store)
        self.asked: list[tuple[str, str]] = [] if asked is None else asked

    def _with_store(self, store: zarr.abc.store.Store) -> Counting:
        return Counting(store, self.asked)

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        self.asked.append(("get", key))
        return await super().get(key, *args, **options)

    async def set(self, key: str, value: Any) -> None:
        self.asked.append(("put", key))
        await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        self.asked.append(("put", key))
        await super().set_if_not_exists(key, value)

    async def exists(self, key: str) -> bool:
        self.asked.append(("get", key))
        return await super().exists(key)

    async def delete(self, key: str) -> None:
        self.asked.append(("delete", key))
        await super().delete(key)

    def list_prefix(self, prefix: str) -> Any:
        self.asked.append(("list", prefix))
        return super().list_prefix(prefix)

    def list_dir(self, prefix: str) -> Any:
        self.asked.append(("list", prefix))
        return super().list_dir(prefix)
