"""Units at work: in threads of this process or on a cluster, each tried again, then recorded with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

from xr_rsembed.errors import RsEmbedError
from xr_rsembed.regions.recipe import Recipe
from xr_rsembed.regions.store import RegionStore, period_span
from xr_rsembed.regions.units import Key, Lattice
from xr_rsembed.store.run import require_same_code
from xr_rsembed.workers import WorkerWatch, as_finished, threads


def work_on(
    store: RegionStore,
    recipe: Recipe,
    units: Iterable[tuple[Lattice, Key]],
    *,
    client: Any = None,
    workers: int = 2,
    retries: int = 1,
) -> Iterator[tuple[Key, str]]:
    """Embed and write units, in threads here or on a cluster's workers; gives the state of each as it is known."""
    work = partial(_work, store, recipe.resolved(), retries)
    if client is None:
        pool, watch, at_once = threads(workers, "unit"), None, 2 * workers
    else:
        require_same_code(client)
        watch, at_once = WorkerWatch(client, "the same call again: finished units are safe"), 1000
        pool = client.get_executor(pure=False, retries=3)
    with (
        pool as executor,
        closing(as_finished(executor, work, units, at_once=at_once, watch=watch)) as finished,
    ):
        for (_, key), state in finished:
            try:
                yield key, state.result()
            except Exception as error:  # of a worker that died, or of the store
                yield key, _failed(store, key, error)


def _work(store: RegionStore, recipe: Recipe, retries: int, unit: tuple[Lattice, Key]) -> str:
    """Embed and write one unit, wherever this runs; a unit that cannot be made is recorded, not raised."""
    lattice, key = unit
    for attempt in range(retries + 1):
        try:
            embedding, scenes = recipe.embed(lattice, key[0], period_span(key[1]))
            break
        except Exception as error:
            if attempt == retries:
                return _failed(store, key, error)
    return store.write(lattice, key, embedding, scenes)


def _failed(store: RegionStore, key: Key, error: Exception) -> str:
    text = str(error) if isinstance(error, RsEmbedError) else f"{type(error).__name__}: {error}"
    store.record(key, {"state": "failed", "reason": " ".join(text.split())[:500]})
    return "failed"
