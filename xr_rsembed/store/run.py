"""Run one step on every block: on the local scheduler or on the cluster at hand, with a bar."""

from __future__ import annotations

import errno
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import dask.array as da
import dask.config
import dask.local
import dask.threaded
from dask.array.optimization import optimize
from dask.base import get_scheduler
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull

from xr_rsembed.errors import RsEmbedError, StoreError
from xr_rsembed.progress import progress
from xr_rsembed.store.digests import code_digest, digest, require_code
from xr_rsembed.workers import WorkerWatch

_BATCH = 64  # blocks whose results another process sends back at a time
_SUSPECTS = 16  # blocks that are run one by one after a failure, in which the failed one most likely is
_FAILURES = 8  # after so many failed blocks it is not the block
_IN_PROCESS = (dask.threaded.get, dask.local.get_sync)


@dataclass(frozen=True)
class Task:
    """One block's work."""

    step: Callable[[Any, list[int]], Any]  # takes the block's values and the digests of its windows
    key: Any  # of the block in the graph; None where the step needs no values
    name: str  # for messages
    place: Any = None  # for the caller: where the block belongs
    windows: tuple[Any, ...] = ()  # keys of the windows whose digests the step is given


Done = Callable[[Task, Any], None]


@dataclass
class _Failures:
    """Blocks that failed, by name."""

    found: dict[str, BaseException] = field(default_factory=dict)

    def add(self, name: str, error: BaseException) -> None:
        """Record a failure, or raise it where going on makes no sense."""
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        if isinstance(error, StoreError) or full or not isinstance(error, Exception):
            raise error
        self.found[name] = error
        if len(self.found) >= _FAILURES:
            self.check()

    def check(self) -> None:
        """Raise where any block failed."""
        if not self.found:
            return
        first = next(iter(self.found.values()))
        if isinstance(first, RsEmbedError) and len({type(e) for e in self.found.values()}) == 1:
            raise first
        names = list(self.found)
        raise StoreError(
            f"{len(names)} blocks failed.",
            found=f"{type(first).__name__}: {first}; in {', '.join(names[:3])}{', ...' if names[3:] else ''}",
            expected="blocks that can be computed",
            remedy="mend what the error names, then go on with resume=True; finished blocks are safe",
        ) from first


def run_blocks(
    arrays: Sequence[da.Array],
    tasks: Sequence[Task],
    done: Done,
    *,
    label: str,
    show: bool | None,
    before: int = 0,
    tiles: int | None = None,
    local: bool = False,
    retries: int = 0,
) -> None:
    """Run tasks on blocks of arrays that may share a graph; each block is computed once and let go after its step.

    ``done`` is called in this process with each finished task and its result. ``local`` keeps to this process even
    where a cluster is at hand: for arrays in memory, which are here already. A block that fails is tried again
    ``retries`` times. The bar counts these blocks and those that were done ``before``, or the tiles that all of them
    make: each as it is done where the work is in this process, else a block's share of them when the block is.
    """
    if not tasks:
        return
    name = f"store-{uuid4().hex}"  # never the key of another store that the same cluster writes
    by_key: dict[Any, Task] = {(name, n): task for n, task in enumerate(tasks)}
    get = _scheduler()
    client = None if local else getattr(get, "__self__", None)
    count, total = before, before + len(tasks)
    number, unit = (total, "blocks") if tiles is None else (tiles, "tiles")
    with progress(number, label, unit=unit, enabled=show) as bar:
        first = bar.done
        bar.reach(first + number * count // total)

        def finished(task: Task, result: Any) -> None:
            nonlocal count
            done(task, result)
            count += 1
            bar.reach(first + number * count // total)

        if hasattr(client, "scheduler_info"):
            _on_cluster(client, arrays, by_key, finished, retries)
        else:
            _on_scheduler(
                dask.threaded.get if local or get is None else get, arrays, by_key, finished, retries
            )


def elsewhere() -> bool:
    """Whether dask's present scheduler runs in other processes."""
    return _scheduler() not in (None, *_IN_PROCESS)


def _scheduler() -> Any:
    """dask's present scheduler, None for threads; where distributed is not loaded there is no cluster to look for."""
    loaded = "distributed" in sys.modules or dask.config.get("scheduler", None) is not None
    return get_scheduler() if loaded else None


def itself(values: Any, _: Any = None) -> Any:
    """The step that gives the block."""
    return values


def _graph(arrays: Sequence[da.Array], by_key: Mapping[Any, Task], steps: Mapping[Any, Any]) -> Any:
    """The arrays' graph with a layer of digests and a layer of steps on top, optimized."""
    merged = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
    name, digests = next(iter(by_key))[0], f"digest-{uuid4().hex}"
    windows = sorted({key for task in by_key.values() for key in task.windows}, key=repr)
    numbers = {key: (digests, n) for n, key in enumerate(windows)}
    layers: dict[str, Any] = {
        **merged.layers,
        digests: {mine: (digest, key) for key, mine in numbers.items()},
        name: {
            key: (steps[key], task.key, [numbers[one] for one in task.windows])
            for key, task in by_key.items()
        },
    }
    depends = {
        **merged.dependencies,
        digests: {key[0] for key in windows},
        name: {digests, *(array.name for array in arrays)},
    }
    return optimize(HighLevelGraph(layers, depends), list(by_key))


def _on_scheduler(
    schedule: Any, arrays: Sequence[da.Array], by_key: Mapping[Any, Task], done: Done, retries: int
) -> None:
    """Work through the blocks in dask's own order; where one fails, the others are done and the failed one is named.

    In this process a step reports its end itself, also in a computation that is cut off.
    """
    reported: set[Any] = set()
    lock, in_process, failures = threading.Lock(), schedule in _IN_PROCESS, _Failures()

    def report(key: Any, result: Any) -> None:
        with lock:
            if key not in reported:
                reported.add(key)
                done(by_key[key], result)

    def step(key: Any, values: Any, digests: list[int]) -> None:
        report(key, by_key[key].step(values, digests))

    steps = {key: partial(step, key) if in_process else task.step for key, task in by_key.items()}
    graph = dict(_graph(arrays, by_key, steps))

    def compute(keys: Sequence[Any]) -> None:
        results = schedule(cull(graph, keys)[0], keys)
        for key, result in () if in_process else zip(keys, results, strict=True):
            report(key, result)

    def compute_alone(key: Any) -> None:
        for left in range(retries, -1, -1):
            try:
                compute([key])
                return
            except Exception as error:
                if not left or isinstance(error, StoreError):
                    failures.add(by_key[key].name, error)

    try:
        while left := [
            key for key in by_key if key not in reported and by_key[key].name not in failures.found
        ]:
            batch = left if in_process else left[:_BATCH]
            try:
                compute(batch)
            except StoreError:
                raise
            except Exception:
                for key in batch[:_SUSPECTS]:
                    if key not in reported:
                        compute_alone(key)
        failures.check()
    finally:
        with lock:
            # Blocks that a failed computation left in dask's threads are not reported any more.
            reported.update(by_key)


def _on_cluster(
    client: Any, arrays: Sequence[da.Array], by_key: Mapping[Any, Task], done: Done, retries: int
) -> None:
    from distributed import as_completed

    require_same_code(client)
    graph = _graph(arrays, by_key, {key: task.step for key, task in by_key.items()})
    futures = client.get(graph, list(by_key), sync=False, retries=retries)
    failures = _Failures()
    watch = WorkerWatch(client, "go on with resume=True; finished blocks are safe")
    # Futures are let go one by one: a finished block whose future is still held would be run again when the worker
    # that holds its result dies, though its bytes are safe.
    waiting = as_completed(futures, raise_errors=False)
    task_of = {future.key: by_key[key] for future, key in zip(futures, by_key, strict=True)}
    del futures
    try:
        while waiting.count():
            batch = waiting.next_batch(block=False)
            for future in batch:
                task = task_of[future.key]
                if future.status == "error":
                    failures.add(task.name, future.exception())
                elif future.status in ("lost", "pending"):  # its worker has died since: it is run again
                    waiting.add(future)
                    continue
                elif future.status != "finished":
                    raise watch.lost(f"a block that is {future.status}, a client that is {client.status}")
                else:
                    done(task, future.result())
                future.release()
            if not batch:
                time.sleep(0.02)
                watch.check()
        failures.check()
    except BaseException:
        if client.status == "running":
            client.cancel(list(waiting.futures))
        raise


def require_same_code(client: Any) -> None:
    """A StoreError where a worker's code is another than this process's."""
    for worker, found in client.run(code_digest, on_error="return").items():
        if not isinstance(found, OSError):  # of a worker that died a moment ago
            require_code(found, code_digest(), worker)
