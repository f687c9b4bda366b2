"""Run one step on every block: on the local scheduler in waves, or on the cluster at hand, with a bar."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
from dask.array.optimization import optimize
from dask.base import get_scheduler
from dask.core import get_dependencies
from dask.highlevelgraph import HighLevelGraph
from dask.system import CPU_COUNT

from xr_rsembed.errors import RsEmbedError, StoreError
from xr_rsembed.progress import progress
from xr_rsembed.store import evidence

__all__ = ["Task", "bar", "local_threads", "run"]

_WAVE = 4  # blocks for each thread, at the end of which threads may wait for one another
_FAILURES = 8  # after so many failed blocks it is not the block
WORKERS_GONE_S = 60.0


@dataclass(frozen=True)
class Task:
    """One block's work.

    Parameters
    ----------
    step : callable
        Takes the block's values (None where ``key`` is None) and its windows' digests.
    key : tuple, optional
        Of the block in the graph.
    windows : tuple of keys
        Whose digests the step is given.
    name : str
        For messages.
    """

    step: Callable[[Any, list[int]], Any]
    key: Any
    windows: tuple[Any, ...] = ()
    name: str = ""


@dataclass
class Failures:
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


def run(
    arrays: Sequence[da.Array],
    tasks: Sequence[Task],
    done: Callable[[Task, Any], None],
    *,
    local: bool = False,
    retries: int = 0,
) -> None:
    """Run tasks on blocks of arrays that may share a graph; each block is computed once and let go after its step.

    Parameters
    ----------
    arrays : sequence of dask array
    tasks : sequence of Task
        In the order in which they are wanted.
    done : callable
        Called in this process with each finished task and its result.
    local : bool
        Keep to this process, even where a cluster is at hand: for arrays in memory, which are here already.
    retries : int
        How often a block that fails is tried again.
    """
    if not tasks:
        return
    name = f"store-{uuid4().hex}"  # never the key of another store that the same cluster writes
    by_key: dict[Any, Task] = {(name, n): task for n, task in enumerate(tasks)}
    client = None if local else cluster()
    if client is not None:
        _on_cluster(client, _graph(arrays, by_key), by_key, done, retries)
        return
    schedule = dask.threaded.get if local else get_scheduler() or dask.threaded.get
    told = _Told(by_key, done, here=schedule in (dask.threaded.get, dask.local.get_sync))
    _in_waves(schedule, _graph(arrays, by_key, told if told.here else None), told, retries)


def cluster() -> Any:
    """The distributed client that dask would use now, or None; distributed is imported only where it already is."""
    client = getattr(get_scheduler(), "__self__", None)
    return client if hasattr(client, "scheduler_info") else None


def local_threads() -> bool:
    """Whether dask's present scheduler runs in this process."""
    scheduler = get_scheduler()
    return scheduler is None or scheduler in (dask.threaded.get, dask.local.get_sync)


def _graph(arrays: Sequence[da.Array], by_key: Mapping[Any, Task], told: _Told | None = None) -> Any:
    """The arrays' graph with a layer of digests and a layer of steps on top, optimized."""
    merged = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
    name, digests = next(iter(by_key))[0], f"digest-{uuid4().hex}"
    windows = {key for task in by_key.values() for key in task.windows}
    numbers = {key: (digests, n) for n, key in enumerate(sorted(windows, key=repr))}
    steps = {
        key: (
            told.step(key) if told else task.step,
            task.key,
            [numbers[one] for one in task.windows],
        )
        for key, task in by_key.items()
    }
    layers: dict[str, Any] = {
        **merged.layers,
        digests: {mine: (evidence.digest, key) for key, mine in numbers.items()},
    }
    depends = {
        **merged.dependencies,
        digests: {key[0] for key in windows},
        name: {digests, *(array.name for array in arrays)},
    }
    graph = HighLevelGraph(layers | {name: steps}, depends)
    return optimize(graph, list(by_key))


class _Told:
    """Which tasks are finished, told as soon as they are: also those of a wave that is cut off."""

    def __init__(self, by_key: Mapping[Any, Task], done: Callable[[Task, Any], None], *, here: bool) -> None:
        self.by_key, self.done, self.here = by_key, done, here
        self.finished: set[Any] = set()
        self.lock = threading.Lock()

    def step(self, key: Any) -> Callable[[Any, list[int]], None]:
        """The step of a task that runs in this process and tells of its end itself."""

        def stepped(values: Any, digests: list[int]) -> None:
            self.tell(key, self.by_key[key].step(values, digests))

        return stepped

    def tell(self, key: Any, result: Any) -> None:
        with self.lock:
            if key not in self.finished:
                self.finished.add(key)
                self.done(self.by_key[key], result)


class _Held:
    """A value that an earlier wave computed, as a task: it is never taken for a key or a task itself."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self) -> Any:
        return self.value


def _in_waves(schedule: Callable[..., Any], graph: Any, told: _Told, retries: int) -> None:
    """Work through the blocks some at a time, in order, and keep between waves just what later ones still need.

    Left to itself, dask begins chunks all over a scene whose windows share them: of 21 960 x 21 960 pixels in 12
    bands it would hold 7.2 GB at a time, in order 1.8 GB: the part of a row of chunks that the next row of blocks
    needs.
    """
    keys = list(told.by_key)
    size = _WAVE * max(4, int(dask.config.get("num_workers", None) or CPU_COUNT))
    waves = [keys[n : n + size] for n in range(0, len(keys), size)]
    graph = dict(graph)
    needs: dict[Any, set[Any]] = {}
    last = _last_waves(graph, waves, needs)
    held: dict[Any, Any] = {}
    failures = Failures()
    for number, wave in enumerate(waves):
        held = {key: value for key, value in held.items() if last[key] >= number}
        part = _closure(graph, wave, held, needs)
        keep = [key for key in part if last.get(key, -1) > number and key not in held]
        try:
            results, kept = schedule(part, [wave, keep])
        except Exception as error:
            if isinstance(error, StoreError):
                raise
            _one_by_one(schedule, graph, wave, held, needs, told, retries, failures)
            continue
        if not told.here:
            for key, result in zip(wave, results, strict=True):
                told.tell(key, result)
        held |= dict(zip(keep, kept, strict=True))
    failures.check()


def _last_waves(
    graph: Mapping[Any, Any], waves: Sequence[Sequence[Any]], needs: dict[Any, set[Any]]
) -> dict[Any, int]:
    """The last wave in which some task that is new there needs a key; fills in what every task needs."""
    last: dict[Any, int] = {}
    for number, wave in enumerate(waves):
        waiting = list(wave)
        while waiting:
            key = waiting.pop()
            if key in needs:
                continue
            needs[key] = get_dependencies(graph, key)
            for one in needs[key]:
                last[one] = number
                waiting.append(one)
    return last


def _closure(
    graph: Mapping[Any, Any], keys: Sequence[Any], held: Mapping[Any, Any], needs: Mapping[Any, set[Any]]
) -> dict[Any, Any]:
    part: dict[Any, Any] = {}
    waiting = list(keys)
    while waiting:
        key = waiting.pop()
        if key in part:
            continue
        if key in held:
            part[key] = (_Held(held[key]),)
            continue
        part[key] = graph[key]
        waiting += needs[key]
    return part


def _one_by_one(
    schedule: Callable[..., Any],
    graph: Mapping[Any, Any],
    wave: Sequence[Any],
    held: Mapping[Any, Any],
    needs: Mapping[Any, set[Any]],
    told: _Told,
    retries: int,
    failures: Failures,
) -> None:
    """A wave in which a block failed, block by block, so that the others are done and the failed one is named."""
    for key in wave:
        if key in told.finished:
            continue
        for left in range(retries, -1, -1):
            try:
                (result,) = schedule(_closure(graph, [key], held, needs), [key])
            except Exception as error:
                if left and not isinstance(error, StoreError):
                    continue
                failures.add(told.by_key[key].name, error)
            else:
                if not told.here:
                    told.tell(key, result)
            break


def _on_cluster(
    client: Any, graph: Any, by_key: Mapping[Any, Task], done: Callable[[Task, Any], None], retries: int
) -> None:
    from distributed import as_completed

    _require_same_code(client)
    futures = client.get(graph, list(by_key), sync=False, retries=retries)
    failures, seen = Failures(), time.monotonic()
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
                elif future.status != "finished":
                    raise _lost(f"a block that is {future.status}, a client that is {client.status}")
                else:
                    done(task, future.result())
                future.release()
            if not batch:
                time.sleep(0.02)
                if time.monotonic() - seen > 2:
                    seen = _workers_seen(client, seen)
        failures.check()
    except BaseException:
        if client.status == "running":
            client.cancel(list(waiting.futures))
        raise


def _workers_seen(client: Any, seen: float) -> float:
    """Now, where there is a worker; raises where there was none for long."""
    try:
        alive = client.status == "running" and bool(client.scheduler_info()["workers"])
    except Exception:
        alive = False
    if alive:
        return time.monotonic()
    if client.status not in ("running", "connecting"):
        raise _lost(f"a client that is {client.status}")
    if time.monotonic() - seen > WORKERS_GONE_S:
        raise _lost(f"no worker for {WORKERS_GONE_S:.0f} seconds")
    return seen


def _lost(found: str) -> StoreError:
    return StoreError(
        "The cluster was lost while the store was written.",
        found=found,
        expected="a scheduler that answers and workers that live",
        remedy="look into the workers' logs (memory?), start the cluster again and go on with resume=True; "
        "finished blocks are safe",
    )


def _require_same_code(client: Any) -> None:
    mine = evidence.code_digest()
    try:
        theirs = client.run(evidence.code_digest)
    except Exception as error:
        theirs = {"a worker": f"{type(error).__name__}: {error}"}
    for worker, found in theirs.items():
        if found != mine:
            raise StoreError(
                "A worker has another xr_rsembed than this process.",
                found=f"{worker} with code {found}",
                expected=f"code {mine}",
                remedy="install the same version on every worker, then start the workers again",
            )


@contextmanager
def bar(
    total: int, done: int, *, show: bool | None, label: str, tiles: int | None = None
) -> Iterator[Callable[[], Any]]:
    """The bar of a run over blocks; gives the function that moves it on by one.

    It counts ``tiles`` where that is how many the blocks make: each as it is done where the work is in this process,
    else a block's share of them when the block is.
    """
    number, unit = (total, "blocks") if tiles is None else (tiles, "tiles")
    with progress(number, label, unit=unit, enabled=show) as shown:
        before = shown.done

        def reach() -> None:
            shown.reach(before + (number * done // total if total else 0))

        def advance() -> None:
            nonlocal done
            done += 1
            reach()

        reach()
        yield advance
