"""Units at work: in threads of this process or on a cluster, each tried again, then recorded with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import Any

from xr_rsembed.errors import RsEmbedError
from xr_rsembed.regions.recipe import Recipe
from xr_rsembed.regions.store import RegionStore
from xr_rsembed.regions.units import Key, Lattice
from xr_rsembed.store.run import require_same_code
from xr_rsembed.times import TemporalSpec
from xr_rsembed.workers import WorkerWatch


def work_on(
    store: RegionStore,
    recipe: Recipe,
    units: Iterable[tuple[Lattice, Key, TemporalSpec]],
    *,
    client: Any = None,
    workers: int = 2,
    retries: int = 1,
) -> Iterator[tuple[Key, str]]:
    """Embed and write units, in threads here or on a cluster's workers; gives the state of each as it is known."""
    waiting, running = iter(units), dict[Any, Key]()
    recipe, most = recipe.written_out(), 2 * workers if client is None else 1000
    watch = client and WorkerWatch(client, "the same call again: finished units are safe")
    with _executor(client, workers) as pool:
        try:
            while True:
                for lattice, key, span in islice(waiting, most - len(running)):
                    running[pool.submit(_work, store, recipe, lattice, key, span, retries)] = key
                if not running:
                    return
                for task in wait(running, 1 if watch else None, FIRST_COMPLETED).done:
                    key = running.pop(task)
                    try:
                        yield key, task.result()
                    except Exception as error:  # of a worker that died, or of the store
                        yield key, _failed(store, key, error)
                if watch:
                    watch.check()
        finally:
            for task in running:
                task.cancel()


def _work(
    store: RegionStore, recipe: Recipe, lattice: Lattice, key: Key, span: TemporalSpec, retries: int
) -> str:
    """Embed and write one unit, wherever this runs; a unit that cannot be made is recorded, not raised."""
    for attempt in range(retries + 1):
        try:
            embedding, scenes = recipe.embed(lattice, key[0], span)
            break
        except Exception as error:
            if attempt == retries:
                return _failed(store, key, error)
    return store.write(lattice, key, embedding, scenes)


def _failed(store: RegionStore, key: Key, error: Exception) -> str:
    text = str(error) if isinstance(error, RsEmbedError) else f"{type(error).__name__}: {error}"
    store.record(key, {"state": "failed", "reason": " ".join(text.split())[:500]})
    return "failed"


@contextmanager
def _executor(client: Any, workers: int) -> Iterator[Executor]:
    """Where units run: threads here, or a cluster's workers."""
    if client is None:
        with ThreadPoolExecutor(workers, thread_name_prefix="xr-rsembed-unit") as pool:
            yield pool
    else:
        require_same_code(client)
        with client.get_executor(pure=False, retries=3) as pool:
            yield pool
