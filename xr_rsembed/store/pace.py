"""The order in which a local scheduler works through blocks: row by row, reading just ahead of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dask
from dask._task_spec import GraphNode, Task, TaskRef, convert_legacy_graph
from dask.system import CPU_COUNT

__all__ = ["paced"]


def paced(graph: dict[Any, Any], keys: Sequence[Any]) -> dict[Any, Any]:
    """The graph, in which a block and the chunks that it is the first to need wait for a block not far before it.

    Left to itself, dask begins chunks all over a scene whose windows share them: of 21 960 x 21 960 pixels in 12 bands,
    2048 px chunks, it would hold 7.2 GB at a time, of 43 920 x 43 920 pixels 25 GB. In this order it is 1.8 and 3.1 GB,
    the part of a row of chunks that the next row of blocks still needs (by the sizes of what the scheduler holds).

    Parameters
    ----------
    graph : dict
        Materialized.
    keys : sequence
        Of the blocks, in the order in which they are wanted.
    """
    graph = convert_legacy_graph(graph)
    paced = dict(graph)
    ahead = 1 + int(
        dask.config.get("num_workers", None) or CPU_COUNT
    )  # a block for each thread, and one to read for
    begun: set[Any] = set()
    for number, key in enumerate(keys):
        gate = keys[number - ahead] if number >= ahead else None
        waiting = [key]
        while waiting:
            one = waiting.pop()
            if one in begun:
                continue
            begun.add(one)
            node = graph[one]
            waiting += node.dependencies
            if gate is not None and isinstance(node, Task) and (one == key or not node.dependencies):
                paced[one] = _after(node, gate)
    return paced


def _after(node: GraphNode, gate: Any) -> Task:
    return Task(node.key, _first, node, TaskRef(gate))


def _first(value: Any, _: Any) -> Any:
    return value
