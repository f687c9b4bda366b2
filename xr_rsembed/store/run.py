"""Run one step on every block: on the local scheduler or on the cluster at hand, with a bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
from dask._task_spec import Alias, Task, TaskRef
from dask.array.optimization import optimize
from dask.base import get_scheduler
from dask.callbacks import Callback
from dask.highlevelgraph import HighLevelGraph

from xr_rsembed.config import get_option
from xr_rsembed.errors import StoreError
from xr_rsembed.store.pace import paced

__all__ = ["Step", "bar", "run_blocks"]

Index = tuple[int, ...]
Step = Callable[[Index, np.ndarray], Index]


def run_blocks(
    array: da.Array, blocks: Sequence[Index], step: Step, *, local: bool, advance: Callable[[], Any]
) -> None:
    """Compute blocks of an array and hand each to a step, in the process that computed it.

    Parameters
    ----------
    array : dask array
        Its chunks are taken as they are: each is computed once, and let go when its step is done.
    blocks : sequence of tuple of int
        Numbers of the chunks that are wanted.
    step : callable
        Takes a block's index and values, and returns the index. Must pickle where a cluster runs it.
    local : bool
        Keep to this process, even where a cluster is at hand: for arrays in memory, which are here already.
    advance : callable
        Called in this process after each step.
    """
    if not blocks:
        return
    name = f"store-{uuid4().hex}"  # never the key of another store that the same cluster writes
    layer: dict[Any, Any] = {
        (name, *block): Task((name, *block), step, block, TaskRef((array.name, *block))) for block in blocks
    }
    keys = list(layer)
    graph = optimize(HighLevelGraph.from_collections(name, layer, dependencies=cast("Any", [array])), keys)
    _unalias(graph, keys)
    client = None if local else _client()
    if client is not None:
        _run_on_cluster(client, graph, keys, advance)
        return
    schedule = None if local else get_scheduler()
    with _Counter(name, advance):
        (schedule or dask.threaded.get)(paced(graph, keys), keys)


def _unalias(graph: Any, keys: Sequence[Any]) -> None:
    """Give every fused task (a block and its step) the key that was asked for, in place of an alias to it.

    The name that dask gives a fused task is not unique to this run. And a cluster would count a block as finished only
    when it comes to run the alias, and run the block again if its worker dies before.
    """
    for key in keys:
        if isinstance(graph[key], Alias):
            graph[key] = graph.pop(graph[key].target).substitute({}, key=key)


def _client() -> Any:
    """The distributed client that dask would use now, or None; distributed is imported only where it already is."""
    client = getattr(get_scheduler(), "__self__", None)
    return client if hasattr(client, "scheduler_info") else None


class _Counter(Callback):
    """Tells of every finished step of a local scheduler."""

    def __init__(self, name: str, advance: Callable[[], Any]) -> None:
        super().__init__(
            posttask=lambda key, *_: advance() if isinstance(key, tuple) and key[0] == name else None
        )


def _run_on_cluster(client: Any, graph: Any, keys: list[Any], advance: Callable[[], Any]) -> None:
    from distributed import as_completed

    # Futures are let go one by one: a finished block whose future is still held would be run again when the worker
    # that holds its result dies, though its bytes are safe.
    waiting = as_completed(client.get(graph, keys, sync=False), raise_errors=False)
    try:
        for future in waiting:
            if future.status == "error":
                future.result()
            if future.status != "finished":
                raise StoreError(
                    "The cluster was lost while the store was written.",
                    found=f"a block that is {future.status}, a client that is {client.status}",
                    expected="a scheduler that answers",
                    remedy="start the cluster again and go on with resume=True; finished blocks are safe",
                )
            advance()
            future.release()
    except BaseException:
        if client.status == "running":
            client.cancel(list(waiting.futures))
        raise


@contextmanager
def bar(total: int, done: int, *, show: bool | None, label: str) -> Iterator[Callable[[], Any]]:
    """A bar that counts blocks, in a terminal or notebook; gives the function that moves it on by one."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if show is None:
        show = get_option("progress") and (console.is_terminal or console.is_jupyter)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console) if show else None
    with progress or nullcontext():
        task = progress.add_task(label, total=total, completed=done) if progress else None
        yield (lambda: progress.advance(task)) if progress and task is not None else (lambda: None)
